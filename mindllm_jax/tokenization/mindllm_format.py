"""MindLLM's symbols and chat template."""

PAD, DOC, USER, ASSISTANT = "<pad>", "<doc>", "<user>", "<assistant>"

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only symbol, id 50,256; it begins and ends a document, as `<doc>`."""

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- set first = 1 if messages and messages[0]['role'] == 'system' else 0 %}
{%- for message in messages %}
    {%- if loop.index0 >= first %}
        {%- if message['role'] != ('user', 'assistant')[(loop.index0 - first) % 2] %}
            {{- raise_exception('message ' ~ loop.index ~ ' is of the role ' ~ message['role']
                ~ ': user and assistant take turns, after one system message at most') }}
        {%- elif message['role'] == 'assistant' %}
            {{- '<assistant>\\n' }}
            {%- generation %}
                {{- message['content'] | trim + eos_token }}
            {%- endgeneration %}
        {%- elif first and loop.index0 == 1 %}
            {{- '<user>\\n' + messages[0]['content'] | trim + '\\n\\n' + message['content'] | trim + '\\n' }}
        {%- else %}
            {{- '<user>\\n' + message['content'] | trim + '\\n' }}
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
