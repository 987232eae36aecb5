"""MindLLM's symbols and chat template."""

PAD, DOC, USER, ASSISTANT = "<pad>", "<doc>", "<user>", "<assistant>"

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only symbol, id 50,256; it begins and ends a document, as `<doc>`."""

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- set told = namespace(system='', count=0) %}
{%- for message in messages %}
    {%- if message['role'] == 'system' and loop.first %}
        {%- set told.system = message['content'] | trim + '\\n\\n' %}
    {%- elif message['role'] != ('user', 'assistant')[told.count % 2] %}
        {{- raise_exception('message ' ~ loop.index ~ ' is of the role ' ~ message['role']
            ~ ': user and assistant take turns, after one system message at most') }}
    {%- else %}
        {%- set told.count = told.count + 1 %}
        {%- if message['role'] == 'user' %}
            {{- '<user>\\n' + told.system + message['content'] | trim + '\\n' }}
            {%- set told.system = '' %}
        {%- else %}
            {{- '<assistant>\\n' }}
            {%- generation %}
                {{- message['content'] | trim + eos_token }}
            {%- endgeneration %}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<assistant>\\n' }}
{%- endif %}
"""
"""The Jinja template of MindLLM's chat format, with the marks of what the loss is computed on.

    <doc><user>\\n{question}\\n<assistant>\\n{answer}<doc><user>\\n{question}\\n<assistant>\\n{answer}<doc>

The prompt is that of the published checkpoint (docs/paper.md), whose `<user>` and `<assistant>` are plain text. A
system message is prepended to the first question.
"""
