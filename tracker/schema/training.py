"""Stage 2: sweeps, training runs with their data, metrics and predictions."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from tracker.schema import base  # noqa: F401  names constraints, which must be set before the first table


class TrainingSweep(SQLModel, table=True):
    """One call of `train`: the grid that a config spans, and the process that works through it."""

    __tablename__ = "training_sweep"

    id: int | None = Field(default=None, primary_key=True)
    uuid: str = Field(unique=True, description="the same in MLflow's tags and on every machine")
    key: str = Field(max_length=32, index=True, description="content key of its points and purpose: the same config")
    status: str = Field(index=True, description="running, complete, stopped, interrupted or failed")
    purpose: str
    model: str
    task: str
    method: str
    n_points: int
    background: bool = Field(default=False, description="wait_for_completion: false")
    continue_on_error: bool = False
    started_at: str = Field(index=True)
    finished_at: str | None = None
    host: str | None = Field(default=None, description="who supervises it, or did last")
    pid: int | None = None
    pid_started: float | None = None
    heartbeat: str | None = None
    config_path: str | None = None
    description: str = ""
    varied: str = Field(sa_type=Text, description="JSON array: the hyperparameters with several values")
    devices: str = Field(sa_type=Text, description="JSON array: one run at a time on each; a GPU's number or cpu")
    command: str = Field(sa_type=Text)
    config: str = Field(sa_type=Text, description="JSON object: the config as it stands in the file")
    error: str | None = Field(default=None, sa_type=Text)


class TrainingRun(SQLModel, table=True):
    """One model, one data set, one method, one point of a grid."""

    __tablename__ = "training_run"
    __table_args__ = (UniqueConstraint("fingerprint", "attempt"), Index(None, "task", "status"))

    id: int | None = Field(default=None, primary_key=True)
    uuid: str = Field(unique=True, description="the same in MLflow's tags and on every machine")
    training_sweep_id: int = Field(foreign_key="training_sweep.id", index=True)
    position: int = Field(description="0-based, in the grid")
    fingerprint: str = Field(max_length=12, description="12 hex digits that stand for data, model, task and settings")
    digest: str = Field(description="SHA-256 of the same canonical JSON")
    scheme: int = Field(description="version of the identity's form")
    attempt: int = Field(description="1, or which repetition of the same point it is")
    status: str = Field(index=True, description="pending, running, complete, failed, stopped (resumes) or interrupted")
    purpose: str = Field(index=True, description="why it was trained; independent of the data's purpose")
    model: str = Field(index=True)
    task: str
    method: str = Field(description="zo, fo_full or fo_lora")
    data: str = Field(description="short name of the data: the experiment's name, or original")
    directory: str = Field(unique=True, description="its results; relative to the workspace where it lies below it")
    learning_rate: float
    batch_size: int | None = Field(default=None, description="NULL: not known of a run that was imported, as below")
    steps: int | None = None
    seed: int | None = Field(default=None, sa_type=BigInteger)
    zo_eps: float | None = None
    lora_rank: int | None = None
    precision: str
    device: str | None = Field(default=None, description="cpu or cuda:N, as it was last started")
    threads: int | None = Field(default=None, description="CPU threads; a resumed run has to have as many")
    n_train: int | None = None
    n_dev: int | None = None
    n_eval: int | None = None
    n_truncated: int | None = Field(default=None, description="records whose prompt lost its left part")
    n_parameters: int | None = Field(default=None, sa_type=BigInteger)
    n_trainable: int | None = Field(default=None, sa_type=BigInteger)
    step: int = Field(default=0, description="updates done so far")
    train_loss: float | None = Field(default=None, description="of the last step")
    dev_loss: float | None = Field(default=None, description="of the best checkpoint")
    dev_accuracy: float | None = Field(default=None, description="of the best checkpoint")
    best_step: int | None = Field(default=None, description="of the lowest dev loss: its weights are what is measured")
    eval_loss: float | None = None
    accuracy: float | None = Field(default=None, description="share of n_eval, 0 to 1")
    accuracy_low: float | None = Field(default=None, description="95% interval (Wilson)")
    accuracy_high: float | None = None
    n_correct: int | None = None
    macro_f1: float | None = None
    majority_accuracy: float | None = Field(default=None, description="of always giving the most frequent train answer")
    zero_shot_accuracy: float | None = Field(default=None, description="of the model before training")
    zero_shot_key: str | None = Field(
        default=None, max_length=32, index=True, description="content key of what that accuracy depends on"
    )
    step_time_s: float | None = Field(default=None, description="median seconds of a step")
    tokens_per_s: float | None = Field(default=None, description="tokens of training batches a second")
    peak_memory_bytes: int | None = Field(
        default=None, sa_type=BigInteger, description="of the GPU, or resident on a CPU"
    )
    n_resumed: int = 0
    import_run_id: int | None = Field(
        default=None, foreign_key="import_run.id", index=True, description="what brought it in; NULL: trained here"
    )
    stop_requested: bool = False
    created_at: str = Field(index=True)
    started_at: str | None = None
    finished_at: str | None = None
    duration_s: float | None = Field(default=None, description="seconds at work, over all its processes")
    host: str | None = None
    pid: int | None = None
    pid_started: float | None = None
    heartbeat: str | None = None
    description: str = ""
    identity: str = Field(sa_type=Text, description="the canonical JSON that both are made of")
    settings: str = Field(sa_type=Text, description="JSON object: every setting under its dotted name")
    config: str = Field(sa_type=Text, description="JSON object: the config of this point")
    versions: str | None = Field(default=None, sa_type=Text, description="JSON object: packages, Python, git state")
    environment: str | None = Field(default=None, sa_type=Text, description="JSON object: variables, without secrets")
    command: str | None = Field(default=None, sa_type=Text)
    classes: str | None = Field(
        default=None, sa_type=Text, description="JSON array: the answers' names; NULL: each record has its own choices"
    )
    error: str | None = Field(default=None, sa_type=Text, description="the last lines of what went wrong")


class TrainingData(SQLModel, table=True):
    """A data set that a training run used; several where it trains on a mix."""

    __tablename__ = "training_data"

    training_run_id: int = Field(foreign_key="training_run.id", primary_key=True)
    position: int = Field(primary_key=True, description="0-based; the first one's dev and validation records are used")
    path: str = Field(description="as the config gives it")
    directory: str = Field(description="where the files are; relative to the workspace where it lies below it")
    dataset: str = Field(description="directory name of the data set, `Copa`")
    name: str = Field(description="short name: the experiment's name, or original")
    shared_experiment_id: int | None = Field(default=None, foreign_key="shared_experiment.id", index=True)
    batch_id: int | None = Field(default=None, foreign_key="batch.id", index=True)
    fingerprint: str | None = Field(default=None, max_length=12, description="of the experiment; NULL: not one of ours")
    train_digest: str = Field(index=True, description="SHA-256 of the train file; empty: not known (imported)")
    eval_digest: str | None = Field(default=None, index=True, description="SHA-256 of the validation file")
    n_records: int | None = Field(default=None, description="records in the train file; NULL: not known (imported)")
    first_record: int = Field(description="0-based: where its n_train training records begin among all")
    n_train: int | None = Field(default=None, description="training records taken from it")
    warning: str | None = Field(default=None, sa_type=Text, description="what makes its numbers less comparable")


class TrainingMetric(SQLModel, table=True):
    """A figure of a training run at a step."""

    __tablename__ = "training_metric"

    training_run_id: int = Field(foreign_key="training_run.id", primary_key=True)
    name: str = Field(primary_key=True, description="`train/loss`, `dev/accuracy` ...")
    step: int = Field(primary_key=True)
    value: float
    recorded_at: str


class Prediction(SQLModel, table=True):
    """What a model answered to one record of the validation split."""

    __tablename__ = "prediction"

    training_run_id: int = Field(foreign_key="training_run.id", primary_key=True)
    stage: str = Field(primary_key=True, description="trained, or zero_shot")
    position: int = Field(primary_key=True, description="0-based, in the validation file")
    label: int = Field(description="index of the right candidate")
    predicted: int = Field(description="index of the candidate with the highest score")
    correct: bool
    scores: str = Field(sa_type=Text, description="JSON array: mean log-probability of each candidate's tokens")
