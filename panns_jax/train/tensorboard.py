"""Figures over iterations as TensorBoard reads them."""

import os
import socket
import time
from pathlib import Path
from typing import Any


class EventFile:
    """An event file that is written at once, by the thread that tells the figures.

    tensorboardX's `SummaryWriter` hands them to a thread of its own instead: where that cannot write, as on full disks,
    whoever tells the eleventh figure waits for ever.
    """

    def __init__(self, folder: Path, *, purge_step: int | None) -> None:
        """Begins a new file.

        Args:
          folder: where TensorBoard looks for the run, which exists.
          purge_step: TensorBoard hides what earlier files of the folder tell from this iteration on.

        Raises:
          OSError: it cannot be written.
        """
        from tensorboardX.proto import event_pb2
        from tensorboardX.record_writer import RecordWriter

        self._messages: Any = event_pb2  # classes that are made when it is imported
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")
        if purge_step is not None:
            begins = self._messages.SessionLog(status=self._messages.SessionLog.START)
            self._write(step=purge_step, session_log=begins)

    def add(self, name: str, value: float, iteration: int) -> None:
        """Tells a figure, which is finite."""
        from tensorboardX.summary import scalar

        self._write(step=iteration, summary=scalar(name, value))

    def flush(self) -> None:
        """Hands everything told so far to the disk."""
        self._records.flush()

    def close(self) -> None:
        """Ends the file."""
        self._records.close()

    def _write(self, **content: object) -> None:
        event = self._messages.Event(wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())
