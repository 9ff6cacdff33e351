"""Localized orthogonal decomposition: interpolation, correctors, local matrices, coarse operator."""
