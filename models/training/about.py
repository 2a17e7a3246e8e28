"""What a model card says in words: for each package its use, its split and its limits."""

from __future__ import annotations

from dataclasses import dataclass

DEEPPCB_SPLIT = (
    "DeepPCB: every tenth pair of each board design is held out, both pictures together, a third "
    "of these for the thresholds. Templates of held-out pairs are the good parts. The parts are "
    "new, the designs are not: other pictures of the same place of the same design were trained "
    "on, as in DeepPCB's own random split."
)
NEU_SPLIT = (
    "NEU-DET: neighbouring numbers of a class often are overlapping windows of one strip, so whole "
    "blocks of 15 numbers are held out, two for the figures and one for the thresholds, with 3 "
    "unused numbers on either side. A random split would share strip between training and test."
)
SIMULATED_SPLIT = "Simulated parts: disjoint ranges of seeds."
NO_SAFETY = (
    "Not a safety function, and not fit for another product or camera without its own evaluation."
)
DEEPPCB_LIMIT = (
    "DeepPCB's pictures are binarised line scans at about 48 px per mm; a defect is 20 to 120 px. "
    "Smaller ones, other magnifications and raw camera pictures of boards were not tested."
)
NEU_LIMIT = (
    "Every picture of NEU-DET shows a defect: there is no good strip to measure false rejects on, "
    "and none is claimed. Take pictures of good strip before using it for pass and fail."
)


@dataclass(frozen=True)
class About:
    """finds: what and where, in one sentence. split, limits: one paragraph or point each. made: how
    the shipped weights came about, where the recipe does not say it all.
    """

    finds: str
    split: tuple[str, ...]
    limits: tuple[str, ...]
    made: str = ""


RESUMED = (
    "The shipped weights were not made by one run of this recipe: the schedule was changed on "
    "resuming. {} An uninterrupted run has not been evaluated."
)


ABOUT = {
    "deeppcb_nano": About(
        "Finds six kinds of defects on binarised pictures of printed circuit boards (DeepPCB).",
        (DEEPPCB_SPLIT,),
        (
            NO_SAFETY,
            "On a board design that it has not seen it is weaker. The honest figure for that is of "
            "its predecessor surface_nano 1 (sha256 dcc0ee93…), which never saw boards 44000 and "
            "77000: mAP50 0.881, AUROC 0.994, 5.3 % false rejects at 99 % recall there, and 0.944, "
            "0.998 and 3.8 % on new pictures of boards that it knew. These weights have seen all "
            "boards of the set, so no such figure can be given for them.",
            "Held out are 99 defective parts, 66 of them for the figures: 99 % recall allows no "
            "miss among these, and one hard part decides the share of false rejects there.",
            "That part, 20085159, shows one round spot of copper. Of the four good ones that score "
            "higher, two are templates with such a spot of their own (13000029, 20085259) and one "
            "has a fragment of lettering at its edge (00041009). Who sees one picture can't tell a "
            "spot of the design from one too many, so 3 % is about as low as such a model gets "
            "here. Another 1350 steps (mAP50 0.965, AUROC 0.997, again 6.1 %) are not shipped.",
            DEEPPCB_LIMIT,
        ),
        "Version 1, where it starts, lies in the history of this repository. It was given up for "
        "its 22.7 % of false rejects at 99 % recall on the pictures above.",
    ),
    "neu_nano": About(
        "Finds six kinds of defects on hot-rolled steel strip (NEU-DET).",
        (NEU_SPLIT,),
        (NO_SAFETY, NEU_LIMIT, "Crazing and rolled-in scale have no clear edges, and their boxes "
         "in the set are loose: they are the weak classes here."),
        RESUMED.format(
            "Steps 1 to 300 followed a plan of 3000 steps, steps 301 to 350 one of 1300, both with "
            "all layers trained; steps 351 to 850 a plan of 850 with the first layers kept, steps "
            "851 to 1350 this one, after the figures of step 850 on the test set (0.718) were seen."
        ),
    ),
    "neu_server": About(
        "Finds six kinds of defects on hot-rolled steel strip (NEU-DET), on a server.",
        (NEU_SPLIT,),
        (NO_SAFETY, NEU_LIMIT, "The graph judges the picture and its three mirror images, all in "
         "one call, and takes the mean: four times the work of a network of its size. The mirror "
         "images were chosen on the validation blocks (neu_nano: 0.705 with them, 0.685 without)."),
    ),
    "surface_nano": About(
        "Finds defects on the simulated line's circuit boards and steel parts.",
        (SIMULATED_SPLIT,),
        (
            NO_SAFETY,
            "Trained and tested on simulated parts only: the figures say nothing about real boards "
            "or real strip. For DeepPCB take deeppcb_nano, for NEU-DET neu_nano.",
        ),
    ),
    "surface_server": About(
        "Names and sizes defects in windows that surface_nano or deeppcb_nano found suspect: same "
        "class names, a larger network.",
        (DEEPPCB_SPLIT, SIMULATED_SPLIT, "Each part gives one square window of 140 to 320 px, "
         "around one of its defects or anywhere on a good part, scaled to the input."),
        (
            NO_SAFETY,
            "This first state is grown, not trained: it computes exactly what surface_nano 1 does, "
            "so it finds no more than that. It stands here for the programs that use it.",
            "Made for windows, not for whole parts: give it 140 to 320 px of the part with the "
            "suspect place inside, scaled to its input.",
            DEEPPCB_LIMIT,
        ),
    ),
}  # fmt: skip
