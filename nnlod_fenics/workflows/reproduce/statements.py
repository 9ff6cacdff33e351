"""Statements of the paper's sections 5 and 6 that no criterion of a run decides."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOT_EXAMINED_HERE", "Statement"]


@dataclass(frozen=True)
class Statement:
    """A statement that is not examined.

    Attributes:
        claim: What the paper says.
        source: Where.
        reason: Why no criterion decides it.
    """

    claim: str
    source: str
    reason: str


NOT_EXAMINED_HERE = (
    Statement(
        "Networks that take A in the place of log A are harder to train.",
        "remark 5.1",
        "the paper reports no numbers, and both networks here take log A",
    ),
    Statement(
        "The step sizes, the batch size and the optimizer are the best of those that were tried.",
        "section 5.4",
        "the others are not stated; each network is trained in one way here",
    ),
    Statement(
        "The values of the losses, of the spectral errors and of the L² errors.",
        "sections 5.5 to 6.3",
        "they depend on all that is chosen here, errors on a single field too; the reports have their own",
    ),
    Statement(
        "Transfer learning gives good results at low contrast if the dataset is large enough, slightly worse ones than "
        "for uniformly elliptic coefficients.",
        "section 5.5",
        "what is good is not stated; the influence of the dataset and the comparison of the losses are examined",
    ),
    Statement(
        "Each step of the contrast raises the losses by half an order of magnitude to a whole one.",
        "sections 5.6, 5.7",
        "a range without a tolerance; that they grow is examined, with the factors as evidence",
    ),
    Statement(
        "Results at moderate contrast need a much larger dataset to be as accurate as those at low contrast.",
        "section 5.6",
        "how accurate and how large is not stated; that errors grow with the contrast and fall with more data is "
        "examined",
    ),
    Statement(
        "From some epoch on the validation loss stays constant while the training loss goes on falling.",
        "section 5.7",
        "of a single training there is no interval; the loss curves show it or do not",
    ),
    Statement(
        "A random correlation length is a manageable challenge, also with the networks of section 5 as a start.",
        "section 6",
        "no bound is stated; the errors and, from scratch or not, the losses are in the reports",
    ),
    Statement(
        "Single solutions by FEM, PG-LOD and NN-LOD look alike; cross-sections are close.",
        "sections 5.5, 5.6, 6.1 to 6.3",
        "judged by eye in the paper; the pictures are there, and the L² errors in the tables",
    ),
    Statement(
        "The undershoot in experiment 3-H is like what too small datasets show in section 5.",
        "section 6.3",
        "a likeness of two patterns, each of which is examined",
    ),
)
"""All of them, in the order of the paper."""
