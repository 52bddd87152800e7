"""Speech, alone in one process: what it reads, how it learns, what it answers, what it refuses."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

from penstock.config import build
from penstock.data.dataset import Dataset
from penstock.data.draws import ItemDraws, Items
from penstock.data.prepare import prepare
from penstock.data.ray_map import in_process
from penstock.errors import ConfigError, DataError
from penstock.store import Store
from penstock.workload import Model, Refusal, Schema
from tests.learning import goes_on_bit_for_bit, learn
from workloads.speech import workload
from workloads.speech.config import Config, Data
from workloads.speech.data import WavFolder, fit, load, speaker
from workloads.speech.evaluate import SpeechEvaluator
from workloads.speech.messages import SpeechAnswer, SpeechRequest
from workloads.speech.predict import SpeechPredictor, sounds
from workloads.speech.synthetic import WORDS, to_wav
from workloads.speech.task import Clips, SpeechTask

SMOKE = workload.presets["smoke"]
NETS = [f"{kind}-{features}" for kind in ("cnn", "crnn", "transformer") for features in ("logmel", "mfcc")]


def tone(hertz: float, seconds: float, rate: int) -> np.ndarray[Any, Any]:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32) / 2


def folder(root: Path, labels: Sequence[str] = ("no", "yes"), clips: int = 8) -> Path:
    """A small folder of tones, two speakers, without lists."""
    for number, label in enumerate(labels):
        (root / label).mkdir(parents=True)
        for n in range(clips):
            name = f"{label}_{'anna' if n % 2 else 'ben'}_{n}.wav"
            (root / label / name).write_bytes(to_wav(tone(300 + 200 * number, 0.3, 8_000), 8_000))
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def synthetic(made: Store) -> Dataset:
    return prepare(workload, "synthetic", SMOKE.data, made, mapper=in_process)


@pytest.fixture(scope="module")
def untrained() -> SpeechPredictor:
    """Knows two labels, one of which stands for an action, and has learned nothing."""
    schema = Schema(("no", "yes"), assets={"actions.toml": b'no = "lamp.off"\nyes = "lamp.off"\n'})
    torch.manual_seed(0)
    weights = SpeechTask(Config(), schema).module.state_dict()
    return SpeechPredictor(Model("speech", 0, Config(), schema, weights), "cpu")


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.rate=4000"], "data.rate = 4000: 8000 to 48000 Hz are possible"),
        (["model.coefficients=12"], "model.coefficients = 12: 13 to model.mels (40) are possible"),
        (["model.width=20"], "model.width = 20: a multiple of 8 is needed"),
        (["model.kind=rnn"], "model.kind = 'rnn': input should be 'cnn', 'crnn' or 'transformer'"),
    ],
)
def test_a_setting_that_cannot_be_is_named(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        build(Config, None, None, words)


# ---------------------------------------------------------------- what it reads


def test_lists_beside_the_folders_hold_the_split(tmp_path: Path) -> None:
    root = folder(tmp_path / "clips")
    (root / "_background_noise_").mkdir()
    (root / "testing_list.txt").write_text("no/no_ben_0.wav\nyes/yes_anna_1.wav\n")
    scan = WavFolder().scan(str(root), Data())
    assert scan.schema.labels == ("no", "yes")
    assert {item.name for item in scan.items if item.split == "test"} == {
        "no/no_ben_0.wav",
        "yes/yes_anna_1.wav",
    }
    assert sum(item.split == "train" for item in scan.items) == 14


def test_without_lists_the_platform_decides_the_split(tmp_path: Path) -> None:
    assert {item.split for item in WavFolder().scan(str(folder(tmp_path / "clips")), Data()).items} == {""}


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"test_list.txt": "no/gone.wav\n"}, "test_list.txt names 'no/gone.wav', which is not there"),
        (
            {"test_list.txt": "no/no_ben_0.wav\n", "train_list.txt": "no/no_ben_0.wav\n"},
            "'no/no_ben_0.wav' is in the lists of train and of test",
        ),
        (
            {"test_list.txt": "no/no_ben_0.wav\n", "train_list.txt": "no/no_ben_2.wav\n"},
            "'no/no_anna_1.wav' is neither in train_list.txt nor in the list of test clips",
        ),
    ],
)
def test_lists_that_do_not_fit_the_folder_are_refused(
    lists: dict[str, str], said: str, tmp_path: Path
) -> None:
    root = folder(tmp_path / "clips")
    for name, text in lists.items():
        (root / name).write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        WavFolder().scan(str(root), Data())


def test_file_names_tell_the_speaker() -> None:
    assert speaker("7_jackson_32") == "jackson"
    assert speaker("0a7c2a8d_nohash_1") == "0a7c2a8d"
    assert speaker("recording 5") == ""


def test_a_speaker_can_be_left_out_of_training(tmp_path: Path) -> None:
    root = folder(tmp_path / "clips")
    items = WavFolder().scan(str(root), Data(leave_out="anna")).items
    assert {item.name for item in items if item.split == "test"} == {
        i.name for i in items if "anna" in i.name
    }
    assert {item.split for item in items} == {"train", "test"}
    with pytest.raises(
        DataError, match=re.escape("data.leave_out = 'ana': no such speaker; did you mean anna?")
    ):
        WavFolder().scan(str(root), Data(leave_out="ana"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('yess = "lamp.on"', "actions file 'actions.toml': no label 'yess'; did you mean yes?"),
        ("yes = 1", "actions file 'actions.toml': yes = 1; write yes = \"name of the action\""),
        ("yes = ", "actions file 'actions.toml': "),
    ],
)
def test_actions_that_fit_no_label_are_refused(text: str, said: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "clips")
    (root / "actions.toml").write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        WavFolder().scan(str(root), Data())


def test_an_empty_class_is_named(tmp_path: Path, store: Store) -> None:
    root = folder(tmp_path / "clips")
    (root / "perhaps").mkdir()
    with pytest.raises(DataError, match="class 'perhaps' is empty"):
        prepare(workload, f"wav:{root}", Data(), store, mapper=in_process)


def no_samples(whole: bytes) -> bytes:
    return to_wav(np.zeros(0, np.float32), 8_000)


def cut_short(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def too_slow(whole: bytes) -> bytes:
    return to_wav(tone(300, 0.3, 4_000), 4_000)


def no_wav(whole: bytes) -> bytes:
    return b"ID3" + whole


BAD = [
    (no_samples, "the sound has no samples"),
    (cut_short, "the WAV file is truncated"),
    (too_slow, "4000 Hz; 8000 to 48000 are allowed"),
    (no_wav, "not a WAV file"),
]


@pytest.mark.parametrize(("spoil", "why"), BAD, ids=lambda case: getattr(case, "__name__", ""))
def test_a_bad_recording_is_named_or_skipped_or_refused(
    spoil: Callable[[bytes], bytes], why: str, tmp_path: Path, store: Store, untrained: SpeechPredictor
) -> None:
    root = folder(tmp_path / "clips")
    victim = root / "yes" / "yes_ben_4.wav"
    good = victim.read_bytes()
    victim.write_bytes(spoil(good))
    with pytest.raises(DataError, match=re.escape(f"yes/yes_ben_4.wav: {why}")):
        prepare(workload, f"wav:{root}", Data(), store, mapper=in_process)
    dataset = prepare(workload, f"wav:{root}", Data(), store, skip_bad=1, mapper=in_process)
    assert dataset.card["skipped"] == [{"item": "yes/yes_ben_4.wav", "why": why}]
    before, refused, after = untrained.predict(
        [SpeechRequest(audio=raw) for raw in (good, spoil(good), good)]
    )
    assert refused == Refusal(why, "/audio")
    assert before == after and isinstance(before, SpeechAnswer)


# ---------------------------------------------------------------- a recording -> what the network hears


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 47_999, 48_000])
def test_any_rate_from_8_to_48_khz_keeps_its_pitch_and_length(rate: int) -> None:
    wave = load(to_wav(tone(1_000, 1.0, rate), rate), 8_000)
    assert wave.dtype == np.float32 and abs(len(wave) - 8_000) <= 8_000 * 0.002 + 1
    loudest = np.abs(np.fft.rfft(wave[:8_000], 8_000)).argmax()
    assert abs(loudest - 1_000) <= 2


def test_a_short_clip_is_centred_and_of_a_long_one_the_loudest_stretch_is_kept() -> None:
    assert fit(np.ones(3, np.float32), 6).tolist() == [0, 1, 1, 1, 0, 0]
    assert fit(np.array([1, 0, 3, 4, 1, 0, 2], np.float32), 3).tolist() == [3, 4, 1]


def test_a_train_row_is_what_the_predictor_hears(synthetic: Dataset) -> None:
    row = synthetic.train.row(0)
    assert row["wave"].shape == (SMOKE.data.samples,) and row["wave"].dtype == np.float32
    assert 0 <= row["label"] < len(WORDS)
    raw = synthetic.test.row(0)
    assert len(fit(load(raw["audio"], 8_000), SMOKE.data.samples)) == SMOKE.data.samples


# ---------------------------------------------------------------- how it learns


def task_of(net: str, schema: Schema) -> SpeechTask:
    kind, features = net.split("-")
    torch.manual_seed(0)
    config = build(
        Config, SMOKE, None, [f"model.kind={kind}", f"model.features={features}", "model.dropout=0.0"]
    )
    task = SpeechTask(config, schema)
    task.module.double()
    return task


def gradients(task: SpeechTask, parts: Iterable[Clips]) -> dict[str, torch.Tensor]:
    task.module.zero_grad()
    for part in parts:
        total, _ = task.loss(part)
        total.backward()
    return {name: p.grad.clone() for name, p in task.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("net", NETS)
def test_slices_of_a_batch_add_up_to_the_whole_however_uneven(net: str, synthetic: Dataset) -> None:
    task = task_of(net, synthetic.schema)

    def slices(*edges: int) -> Iterable[Clips]:
        for low, high in itertools.pairwise(edges):
            yield task.collate(Items(synthetic.train, range(low, high), ItemDraws(0, 3)))

    whole, parts = gradients(task, slices(0, 5)), gradients(task, slices(0, 3, 3, 4, 5))
    assert whole.keys() == dict(task.module.named_parameters()).keys()
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=1e-10)


def test_a_clip_is_augmented_the_same_in_any_company(synthetic: Dataset) -> None:
    task = SpeechTask(SMOKE, synthetic.schema)

    def clips(epoch: int, *which: int) -> Clips:
        return task.collate(Items(synthetic.train, which, ItemDraws(0, epoch)))

    many, few, later = clips(0, *range(40)), clips(0, 30, 7), clips(1, 30, 7)
    for a, b in ((many.wave, few.wave), (many.bend.warp, few.bend.warp), (many.bend.blank, few.bend.blank)):
        assert torch.equal(a[[30, 7]], b)
    assert not torch.equal(few.wave, later.wave)


def test_noise_is_as_loud_as_the_settings_say(synthetic: Dataset) -> None:
    config = build(Config, SMOKE, None, ["augment.shift=0.0", "augment.noise=1.0", "augment.quietest=20.0"])
    clips = SpeechTask(config, synthetic.schema).collate(Items(synthetic.train, range(64), ItemDraws(0, 0)))
    clean = torch.stack([torch.tensor(synthetic.train.row(i)["wave"]) for i in range(64)])
    ratio = 10 * torch.log10(clean.square().mean(1) / (clips.wave - clean).square().mean(1))
    assert (
        3 < ratio.min() < 9 and 16 < ratio.max() < 22
    )  # a stretch of noise is not exactly as loud as all of it


def test_a_killed_run_goes_on_to_bitwise_the_same_weights(synthetic: Dataset, made: Store) -> None:
    config = replace(SMOKE, train=replace(SMOKE.train, epochs=2, ema=0.9, checkpoint_every=4))
    goes_on_bit_for_bit(workload, config, synthetic, made)


@pytest.fixture(scope="module")
def learned(synthetic: Dataset, made: Store) -> Model[Config]:
    """What the smoke preset learns from the synthetic words."""
    outcome, run = learn(workload, SMOKE, synthetic, made, "smoke")
    assert len(run.metrics.loss_curve()) >= 3 * SMOKE.train.checkpoint_every
    return Model("speech", 1, SMOKE, synthetic.schema, outcome.weights)


def test_smoke_learns_words_that_the_mean_spectrum_does_not_tell_apart(
    synthetic: Dataset, learned: Model[Config]
) -> None:
    evaluator = SpeechEvaluator(SMOKE, synthetic.schema)
    rows = synthetic.test.rows(range(len(synthetic.test)))
    answers = SpeechPredictor(learned, "cpu").predict(evaluator.requests(rows))
    assert evaluator.summarise(evaluator.records(rows, answers))["accuracy"] > 0.8

    def spectrum(wave: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        power = np.square(np.abs(np.fft.rfft(wave))).reshape(-1)[:-1].reshape(40, -1).mean(1)
        level = np.log(power + 1e-9)
        return level - level.mean()

    train = [synthetic.train.row(i) for i in range(len(synthetic.train))]
    known, label = (
        np.stack([spectrum(row["wave"]) for row in train]),
        np.array([row["label"] for row in train]),
    )
    centroids = np.stack([known[label == k].mean(0) for k in range(len(WORDS))])
    asked = np.stack([spectrum(fit(load(row["audio"], 8_000), 8_000)) for row in rows])
    trivial = np.square(asked[:, None] - centroids).sum(2).argmin(1) == [row["label"] for row in rows]
    assert trivial.mean() < 0.4


# ---------------------------------------------------------------- what it answers


def test_sounds_between_pauses_are_found_in_quiet_and_in_noise() -> None:
    pause = np.zeros(3_200, np.float32)
    wave = np.concatenate([pause, tone(500, 0.3, 8_000), pause, tone(900, 0.5, 8_000), pause])
    noise = np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32) * 0.01
    for heard in (wave, wave + noise, wave / 500):
        spans = [(start / 8_000, end / 8_000) for start, end in sounds(heard, 8_000)]
        assert np.allclose(spans, [(0.4, 0.7), (1.1, 1.6)], atol=0.06), spans
    assert sounds(np.zeros(8_000, np.float32), 8_000) == []


def test_a_longer_recording_gives_a_time_line_of_words(synthetic: Dataset, learned: Model[Config]) -> None:
    predictor, rate = SpeechPredictor(learned, "cpu"), 8_000
    rows = synthetic.test.rows(range(len(synthetic.test)))
    alone = predictor.predict([SpeechRequest(audio=row["audio"]) for row in rows])
    certain = [max(a.probabilities.values()) if isinstance(a, SpeechAnswer) else 0.0 for a in alone]
    sure = np.argsort(certain)[-4:].tolist()
    parts, places, at = [np.zeros(rate // 2, np.float32)], [], rate // 2
    for i in sure:
        wave = load(rows[i]["audio"], rate)
        wave = wave / np.abs(wave).max() / 2
        parts += [wave, np.zeros(rate // 2, np.float32)]
        places.append((at / rate, (at + len(wave)) / rate))
        at += len(wave) + rate // 2
    (answer,) = predictor.predict([SpeechRequest(audio=to_wav(np.concatenate(parts), rate))])
    assert isinstance(answer, SpeechAnswer)
    assert answer.text == " ".join(alone[i].label for i in sure)
    assert np.allclose([(word.start, word.end) for word in answer.words], places, atol=0.08)
    assert all(word.action == predictor.actions.get(word.label) for word in answer.words)


def test_a_long_sound_without_pauses_is_heard_window_by_window(untrained: SpeechPredictor) -> None:
    request = SpeechRequest(audio=to_wav(tone(400, 3.2, 8_000), 8_000), min_score=0.0)
    (answer,) = untrained.predict([request])
    assert isinstance(answer, SpeechAnswer)
    assert next(round(word.start, 2) for word in answer.words) == 0.0 and answer.words[-1].end == 3.2
    labels = [word.label for word in answer.words]
    assert all(a != b for a, b in itertools.pairwise(labels)), "overlapping equal words are one word"


def test_silence_has_no_words_and_a_label_carries_its_action(untrained: SpeechPredictor) -> None:
    silent, spoken = untrained.predict(
        [
            SpeechRequest(audio=to_wav(np.zeros(16_000, np.float32), 8_000)),
            SpeechRequest(audio=to_wav(tone(400, 0.5, 8_000), 8_000)),
        ]
    )
    assert isinstance(silent, SpeechAnswer) and silent.words == [] and silent.text == ""
    assert isinstance(spoken, SpeechAnswer) and spoken.action == spoken.words[0].action == "lamp.off"
    assert spoken.text == spoken.label and (spoken.words[0].start, spoken.words[0].end) == (0.0, 0.5)


def test_metrics_are_those_of_a_hand_count_and_a_refusal_is_wrong() -> None:
    evaluator = SpeechEvaluator(Config(), Schema(("a", "b", "c", "d")))
    records = pa.table(
        {"label": [0, 0, 1, 1, 2], "heard": [0, 1, 1, 1, -1], "score": [0.9, 0.5, 0.8, 0.9, 0.0]}
    )
    metrics = evaluator.summarise(records)
    assert metrics["accuracy"] == pytest.approx(3 / 5)
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)  # d is neither said nor heard
    assert np.isnan(evaluator.summarise(records.slice(0, 0))["accuracy"])


def test_the_report_has_a_confusion_matrix_and_the_speakers() -> None:
    evaluator = SpeechEvaluator(Config(), Schema(("a", "b")))
    records = pa.table(
        {
            "item": list("wxyz"),
            "unit": ["anna", "anna", "ben", "ben"],
            "label": [0, 1, 0, 1],
            "heard": [0, 1, -1, 1],
        }
    )
    figures = evaluator.figures(records, [], [])
    assert [figure.title for figure in figures] == ["Confusion matrix", "Accuracy by speaker"]
    assert all(figure.svg.startswith("<svg") for figure in figures)


# ---------------------------------------------------------------- real recordings


@pytest.mark.real_data
def test_spoken_digits_are_read_as_their_lists_say(real_data: Path) -> None:
    scan = WavFolder().scan(str(real_data / "speech" / "fsdd"), Data())
    assert scan.schema.labels == tuple("0123456789")
    assert (
        sum(i.split == "train" for i in scan.items) == 720
        and sum(i.split == "test" for i in scan.items) == 300
    )
    assert {i.unit for i in scan.items} == {"jackson", "nicolas", "theo", "george", "lucas", "yweweler"}


@pytest.mark.real_data
def test_commands_at_16_khz_are_resampled_and_learned_from(real_data: Path, store: Store) -> None:
    source = f"wav:{real_data / 'speech' / 'speech-commands-mini'}"
    dataset = prepare(workload, source, Data(), store, mapper=in_process)
    assert sum(dataset.counts.values()) == 80 and dataset.counts["test"] == 39
    config = replace(SMOKE, data=Data(), train=replace(SMOKE.train, epochs=1))
    outcome, _ = learn(workload, config, dataset, store, "commands")
    predictor = SpeechPredictor(Model("speech", 1, config, dataset.schema, outcome.weights), "cpu")
    rows = dataset.test.rows(range(8))
    assert (
        soundfile.info(real_data / "speech" / "speech-commands-mini" / rows[0]["item"]).samplerate == 16_000
    )
    answers = predictor.predict([SpeechRequest(audio=row["audio"], min_score=0.0) for row in rows])
    assert all(
        isinstance(answer, SpeechAnswer) and answer.label in dataset.schema.labels for answer in answers
    )
