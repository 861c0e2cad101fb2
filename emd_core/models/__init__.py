"""The networks: ESR (expression), Xception + DeepLabV3+ (manipulation), EMD which joins them, MultiTask.

In: a config, weights. Out: a network of logits, its loss, a checkpoint that describes itself. Uses storage.
Shape suffixes: B batch, K branches, C channels, N expression classes, hw a feature map, HW the image.
"""
