"""A search for TensorBoard: scalars over the trials and the updates of the policy, and HParams.

    tensorboard --logdir DIR/tensorboard

Written from `trials.jsonl` and `controller/updates.jsonl` alone, with TensorBoard's own
record writer: no TensorFlow, and nothing that a search has to remember. Trials carry no
wall-clock time, so the time axis is the seconds that they took, added up.
"""

import json
import shutil

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2
from tensorboard.summary.writer.record_writer import RecordWriter

from nasnet_keras.search.directory import SearchDirectory

SCALARS = ("reward", "best_reward", "staleness", "seconds")
POLICY = ("reward", "baseline", "entropy", "kl", "clipped", "loss", "staleness", "weight", "effective_sample_size")


class Summaries:
    """Follows a search into `<directory>/tensorboard`; what lies there of an earlier run is written anew.

    The run `search` has a scalar a trial (step: how many had ended) and, under `policy/`, a scalar an update (step: its
    version). Each trial is a run of its own below `trials/`, with its decisions as HParams and its reward as metric.

    Args:
        directory: the search's directory.
    """

    def __init__(self, directory):
        self.directory = SearchDirectory(directory)
        self.folder = self.directory.tensorboard
        self._begun = False
        self._seen, self._read, self._best, self._clock = 0, 0, None, 0.0

    def update(self, trials):
        """Write what is new.

        Args:
            trials: all finished trials, as in `trials.jsonl`.
        """
        if not self._begun:
            for own in ("search", "trials"):  # whatever else lies there is somebody's
                shutil.rmtree(self.folder / own, ignore_errors=True)
        better = min if self.directory.objective()[1] == "min" else max
        (self.folder / "search").mkdir(parents=True, exist_ok=True)
        with (self.folder / "search" / "events.out.tfevents.0.search").open("ab") as file:
            writer = RecordWriter(file)
            if not self._begun:
                writer.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
                self._begun = True
            for step, trial in enumerate(trials[self._seen :], self._seen + 1):
                self._clock += trial.get("seconds") or 0.0
                reward = trial.get("reward")
                if reward is not None:
                    self._best = reward if self._best is None else better(self._best, reward)
                values = {name: trial.get(name) for name in SCALARS} | {"best_reward": self._best}
                _write(writer, step, self._clock, {f"trials/{name}": value for name, value in values.items()})
                self._write_hparams(trial)
            for update in self._new_updates():
                values = {f"policy/{name}": update.get(name) for name in POLICY}
                _write(writer, update["version"], self._clock, values)
        self._seen = len(trials)

    def _new_updates(self):
        """The lines of the log that are complete and were not read yet."""
        try:
            with self.directory.updates.open("rb") as log:
                log.seek(self._read)
                content = log.read()
        except FileNotFoundError:
            return []
        complete = content[: content.rfind(b"\n") + 1]
        self._read += len(complete)
        return [json.loads(line) for line in complete.splitlines()]

    def _write_hparams(self, trial):
        name = str(trial["trial_id"])
        folder = self.folder / "trials" / name
        folder.mkdir(parents=True, exist_ok=True)
        chosen = {
            f"{cell}_{number}_{place}": value
            for cell in ("normal", "reduction")
            for number, block in enumerate(trial["genotype"][cell]["blocks"])
            for place, value in (
                ("inputs", str(tuple(block["inputs"]))),
                ("operations", " ".join(block["operations"])),
                ("combine", block["combine"]),
            )
        }
        with (folder / f"events.out.tfevents.0.{name}").open("wb") as file:
            writer = RecordWriter(file)
            writer.write(Event(wall_time=self._clock, file_version="brain.Event:2").SerializeToString())
            hparams = summary_v2.hparams_pb(chosen, trial_id=name, start_time_secs=self._clock)
            writer.write(Event(wall_time=self._clock, summary=hparams).SerializeToString())
            values = {key: trial.get(key) for key in ("reward", "parameters", "multiply_adds", "seconds")}
            _write(writer, 0, self._clock, values)


def _write(writer, step, clock, values):
    scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if value is not None]
    writer.write(Event(wall_time=clock, step=step, summary=Summary(value=scalars)).SerializeToString())
