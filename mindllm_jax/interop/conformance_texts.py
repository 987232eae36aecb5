"""Short texts in Chinese and English on which an export is compared with its source."""

TEXTS = (
    "A glacier is a body of dense ice that moves under its own weight. It forms where snow falls faster than it melts, "
    "over many years, and it is the largest store of fresh water on the land.",
    "The library opens at nine. Bring the form, two photographs (35 x 45 mm) and 12.50 in cash; cards aren't accepted.",
    "def mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n    return total\n",
    "冰川是由多年积雪压实而成的巨大冰体，在自身重力的作用下缓慢流动。它们储存了陆地上大部分的淡水。",
    "图书馆上午九点开门。请带上申请表、两张照片和十二元五角现金；不接受刷卡。",
    "小王问：“明天去不去爬山？”老李笑了笑，说：“天气预报说有雨，改到下个星期六吧。”",
    "GPT-Neo 的局部注意力只看最近的 256 个 token，而全局层可以看到整段文字，两者交替出现 (local / global)。",
    "Once upon a time there was a small boat that wanted to see the sea. 从前有一条小船，它想去看大海。",
)
