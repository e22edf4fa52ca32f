"""`panns-jax embed`: sound files to vectors, as many as there are, in one file or folder."""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from panns_jax.errors import InputError
from panns_jax.execute import Engine, tell_nodes
from panns_jax.infer.bulk.rows import Dtype, StoredTap
from panns_jax.infer.files import SoundFiles, nothing_heard
from panns_jax.infer.recipes import RECIPES, RecipeName
from panns_jax.left_out import report_left_out

if TYPE_CHECKING:
    from panns_jax.infer.bulk.journal import Journal
    from panns_jax.infer.bulk.store import Store
    from panns_jax.infer.listener import Listener
    from panns_jax.infer.sources import Source
    from panns_jax.infer.windows import Windows

# Options on which the vectors do not depend, or which are told in another way.
_WITHOUT_EFFECT = {
    *("files", "out", "model", "checkpoint", "mirror", "memory", "shard", "tap", "window", "hop", "precision"),
    *("lists", "column", "restart", "retry_failed", "engine", "address", "workers"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embed(SoundFiles):
    """Writes vectors of sound files: one per file, or per window of each, in the files' order.

    Files that cannot be read are left out and named at the end (exit code 1). The work goes on in the folder OUT.part,
    and becomes OUT at its end; interrupted or killed, the same command goes on where it was. OUT's journal,
    OUT.journal.jsonl, tells what became of each file, and a file that changed since is heard again.
    """

    out: Path
    """The file to write, ending in .h5, .npz or .parquet; or a folder, for an .npy file per sound. One that exists is
    replaced once the new one is complete."""
    tap: Annotated[tuple[StoredTap, ...], tyro.conf.UseAppendAction] = ()
    """What is stored of the model, embedding by default; given several times for several. pooled is what the last
    layers read, logits come before the sigmoid; frames is a sequence, as are pooled and logits of decision-level
    models."""
    recipe: Annotated[RecipeName | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Hear each file as tools do that measure distances, and store what they take, by their model (Cnn14_16k where none
    is named). fad: the mean of the channels, embedding. audioldm-eval: the first channel less its mean, padded to
    32,000 samples, embedding and logits."""
    window: Annotated[float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="")] = None
    """Hear windows of this length one by one, instead of each file as a whole."""
    hop: Annotated[float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="")] = None
    """From the beginning of a window to that of the next; as long as the window by default."""
    dtype: Dtype = "float32"
    """What is stored; float16 halves the room and has three digits. The model computes in --precision."""
    shard: Annotated[str | None, tyro.conf.arg(metavar="3/16", help_behavior_hint="")] = None
    """Do the third of sixteen parts of the files; panns-jax merge joins the outputs of all."""
    restart: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Throw away what an interrupted run has done, or a complete one, and begin anew."""
    retry_failed: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Try files again that failed, though they have not changed."""
    engine: Engine = "local"
    """local: this machine; ray: a cluster, whose machines share the files and the checkpoint."""
    address: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT", help_behavior_hint="")] = None
    """Of the Ray cluster, or auto; without it, Ray is started on this machine."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Processes of the cluster that each hold a model; as many as it has processor cores by default."""

    def run(self) -> int:
        """Writes the vectors of every file; the exit code is 0, or 1 where some files failed.

        Raises:
          InputError: an option cannot be used, the model makes no embedding, or no file could be read.
        """
        from panns_jax.infer.bulk.finished import finished
        from panns_jax.infer.bulk.journal import NAME, Plan
        from panns_jax.infer.bulk.rows import stamp_of
        from panns_jax.infer.bulk.store import opened, part_of

        if self.recipe is not None and self.model is None and self.checkpoint is None:
            return dataclasses.replace(self, model=RECIPES[self.recipe].models[0]).run()
        self._require_fitting()
        windows, everything = self._windows, self.sources
        sources = self._part_of(everything)
        listener = self.load()
        taps = self._taps(listener)
        told = self._attributes(listener, taps)
        names = [source.name for source in everything]
        plan = Plan.of({**self._settings(), **told}, names)
        complete = None if self.restart or (part_of(self.out) / NAME).exists() else finished(self.out, plan)
        if complete and not self._pending(complete, sources):
            print(f"{self.out} is there already")
            return self._report(complete, sources)
        told |= {"list_files": plan.files, "list_sha256": plan.list_sha256}
        with opened(self.out, plan, restart=self.restart) as store:
            if complete:
                self._take_over(store, complete, sources, {n: stamp_of(source) for n, source in enumerate(sources)})
            try:
                self._hear(store, sources, listener, taps, windows)
            except KeyboardInterrupt:
                done = len(store.journal.entries)
                print(f"{done} of {len(sources)} files are done; the same command goes on there", file=sys.stderr)
                raise
            return self._finish(store, sources, told)

    @functools.cached_property
    def sources(self) -> "list[Source]":
        """The sounds of the options, as the recipe has them heard."""
        sources = super().sources
        return sources if self.recipe is None else [*RECIPES[self.recipe].of(sources)]

    def _require_fitting(self) -> None:
        from panns_jax.infer.vectors.writing import require_writable

        if self.recipe is not None and self.window is not None:
            raise InputError(f"--recipe {self.recipe} hears whole files: leave out --window")
        require_writable(self.out)
        if self.engine == "local":
            for option, value in (("--workers", self.workers), ("--address", self.address)):
                if value is not None:
                    raise InputError(f"{option} {value} is for --engine ray; a machine alone uses all its cores anyway")
        elif self.workers is not None and self.workers < 1:
            raise InputError(f"--workers must be 1 or more, not {self.workers}")

    @property
    def _windows(self) -> "Windows | None":
        from panns_jax.infer.windows import Windows

        if self.window is None:
            if self.hop is not None:
                raise InputError(f"--hop {self.hop:g} needs --window, the length of what is heard every {self.hop:g} s")
            return None
        return Windows(self.window, self.window if self.hop is None else self.hop)

    def _part_of(self, sources: "Sequence[Source]") -> "Sequence[Source]":
        from panns_jax.infer.bulk.shards import Shard

        if self.shard is None:
            return sources
        part = Shard.parse(self.shard).part(sources)
        if sources and not part:
            raise InputError(f"--shard {self.shard}: there are only {len(sources)} files; make as many shards at most")
        return part

    def _taps(self, listener: "Listener") -> tuple[StoredTap, ...]:
        taps = tuple(dict.fromkeys(self.tap)) or (RECIPES[self.recipe].taps if self.recipe else ("embedding",))
        if "embedding" in taps and listener.config.embedding_dim is None:
            raise InputError(
                f"{listener.config.name} makes no embedding: choose a model with one, such as Cnn14, or"
                " --tap pooled, frames or logits"
            )
        return taps

    def _settings(self) -> dict[str, Any]:
        """The options on which the vectors depend, beside those that the output tells."""
        options = (field.name for field in dataclasses.fields(self))
        return {name: str(getattr(self, name)) for name in options if name not in _WITHOUT_EFFECT}

    def _attributes(self, listener: "Listener", taps: tuple[StoredTap, ...]) -> dict[str, Any]:
        """What the output tells of how it was made."""
        from importlib.metadata import version

        from panns_jax.infer.bulk.provenance import weights_told
        from panns_jax.infer.bulk.shards import Shard

        config = listener.config
        told: dict[str, Any] = {"model": config.name, **weights_told(config.name, self.checkpoint)}
        told |= {"sample_rate": config.sample_rate, "tap": ",".join(taps), "dtype": self.dtype}
        told["precision"] = "bfloat16" if self.precision == "bf16" else self.precision
        if windows := self._windows:
            told |= {"window": windows.length, "hop": windows.hop}
        if "frames" in taps or config.embedding_dim is None:
            told["step"] = listener.step / config.sample_rate
        if self.recipe is not None:
            told["recipe"] = self.recipe
        if self.shard is not None:
            told["shard"] = str(Shard.parse(self.shard))
        return told | {"panns_jax": version("panns_jax"), "jax": version("jax")}

    def _pending(self, journal: "Journal", sources: "Sequence[Source]") -> list[int]:
        """Places of the sounds that are to be heard: new, changed since, or failed and to be tried again."""
        from panns_jax.infer.bulk.rows import stamp_of

        def is_done(number: int) -> bool:
            entry = journal.entries.get(number)
            if entry is None or (entry.failure is not None and self.retry_failed):
                return False
            if entry.failure is None and entry.stamp is None:  # of standard input: who knows what comes this time
                return False
            return entry.stamp == stamp_of(sources[number])

        return [number for number in range(len(sources)) if not is_done(number)]

    def _take_over(self, store: "Store", complete: "Journal", sources: "Sequence[Source]", stamps: dict) -> None:
        from panns_jax.infer.bulk.finished import take_over

        take_over(store, self.out, complete, {n: source.name for n, source in enumerate(sources)}, stamps)

    def _hear(
        self,
        store: "Store",
        sources: "Sequence[Source]",
        listener: "Listener",
        taps: tuple[StoredTap, ...],
        windows: "Windows | None",
    ) -> None:
        from panns_jax.infer.bulk.hearing import Wanted, heard_by_cluster, heard_here

        wanted = Wanted(taps, self.dtype, windows)
        pending = self._pending(store.journal, sources)
        some = [sources[number] for number in pending]
        done = len(sources) - len(pending)
        if done and pending:
            print(f"{done} of {len(sources)} files are done already", file=sys.stderr)
        if self.engine == "local":
            hearing = heard_here(some, listener, wanted, done=done)
        else:
            checkpoint = None if self.checkpoint is None else self.checkpoint.absolute()
            model = dataclasses.replace(self, files=(), checkpoint=checkpoint)
            hearing = heard_by_cluster(some, model, wanted, workers=self.workers, address=self.address, done=done)
        nodes: dict[str, int] = {}
        with hearing as results:
            for number, (result, node) in zip(pending, results, strict=True):
                store.enter(number, sources[number].name, result, node)
                if node is not None:
                    nodes[node] = nodes.get(node, 0) + 1
        tell_nodes(nodes)

    def _finish(self, store: "Store", sources: "Sequence[Source]", told: dict[str, Any]) -> int:
        from panns_jax.infer.bulk.finished import finish
        from panns_jax.infer.bulk.store import discard

        journal = store.journal
        failures = [entry.failure for _, entry in sorted(journal.entries.items()) if entry.failure is not None]
        if len(failures) == len(sources) and self.shard is None:  # a shard may be empty: merge asks for all
            store.close()
            discard(self.out)
            raise nothing_heard(failures)
        told |= {"files": len(sources), "failed": len(failures)}
        table = store.table([source.name for source in sources], told, windows=self.window is not None)
        finish(store, table, self.out)
        print(f"{len(sources) - len(failures)} of {len(sources)} files are in {self.out}")
        return self._report(journal, sources)

    def _report(self, journal: "Journal", sources: "Sequence[Source]") -> int:
        """Names the sounds that failed on standard error, and gives the exit code."""
        from panns_jax.infer.bulk.finished import journal_of

        failures = [entry.failure for _, entry in sorted(journal.entries.items()) if entry.failure is not None]
        return report_left_out(failures, len(sources), "files", told_in=str(journal_of(self.out)))
