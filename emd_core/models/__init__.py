"""The networks: ESR (expression), Xception + DeepLabV3+ (manipulation), and EMD which joins them.

Shape suffixes: B batch, K branches, C channels, N expression classes, hw a feature map, HW the image.
"""
