"""`panns-jax describe`: what labelled data is like, before it is learnt from."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

import tyro

from panns_jax.data.labelled.options import DataOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Describe(DataOptions):
    """Reads labelled sounds and tells their classes, lengths and formats, and which files are suspicious.

    Exit code 0: all can be read; 1: some cannot, and are listed; 2: the data is not as it should be.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA", help_behavior_hint="")]
    """A folder with a folder for each class; a csv, tsv or Parquet table; or tfds:NAME, tfds:NAME/CONFIG or
    tfds:NAME:SPLIT for a data set of TensorFlow Datasets."""
    format: Literal["text", "json"] = "text"
    """For people, or for programs."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """Write it there instead of printing it."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Number of threads that read; as many as there are processor cores by default."""

    def run(self) -> int:
        """Prints the data card.

        Raises:
          InputError: the data is not as it should be.
        """
        from panns_jax.data.labelled.card import data_card
        from panns_jax.errors import InputError
        from panns_jax.files import require_parent, written_aside

        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers must be 1 or more, not {self.workers}")
        if self.out is not None:
            require_parent(self.out)
        card = data_card(self.read(self.data), sample_rate=32000, workers=self.workers)
        told = card.text() if self.format == "text" else json.dumps(card.to_json(), indent=2, ensure_ascii=False)
        if self.out is None:
            print(told)
        else:
            with written_aside(self.out) as aside:
                aside.write_text(told + "\n", encoding="utf-8", errors="backslashreplace")
        return 1 if card.unreadable else 0
