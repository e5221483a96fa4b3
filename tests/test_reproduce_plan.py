"""From tables to jobs: what is trained how, what shares a training, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import fake_trees
from command_line import refused
from crossband.cli import main
from crossband.errors import OptionError
from crossband.info import count_flops
from crossband.pairs.export import export_folder
from crossband.reproduce import quick
from crossband.reproduce.estimate import estimate_jobs, training_operations
from crossband.reproduce.jobs import Job, Plan
from crossband.reproduce.plan_text import plan_text
from crossband.reproduce.planning import make_plan
from crossband.reproduce.settings import Compute, Settings
from crossband.reproduce.settings_file import agree, keep
from crossband.reproduce.settings_words import read_settings
from crossband.reproduce.table import Row
from crossband.reproduce.tables import TABLES, find_tables, with_systems
from crossband.systems import create
from crossband.systems.csknet.training import CSKNetTraining
from crossband.training.options import TrainOptions
from crossband.training.resolving import resolve
from tiny_systems import one_line

TINY_SCENES = "scenes,train=8,val=0,test=4,size=32x48"
QUICK = Settings(budget="quick", on=TINY_SCENES)


def settings(**changes: object) -> Settings:
    words: dict = {
        "budget": "paper",
        "data": [],
        "on": None,
        "encoder": None,
        "encoder_weights": [],
        "recipe": {},
        "test_split": "test",
    }
    return read_settings(**{**words, **changes})


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Sources of small copies of the benchmarks, as they are downloaded."""
    root = tmp_path_factory.mktemp("trees")
    makers: dict[str, Callable[[Path], None]] = {
        "msrs": fake_trees.msrs,
        "mfnet": fake_trees.mfnet_original,
        "fmb": fake_trees.fmb_official,
    }
    for key, make in makers.items():
        make(root / key)
    return {key: f"{key}:{root / key}" for key in makers}


def plan_of(*names: str, settings: Settings = QUICK, seeds: int = 1) -> Plan:
    return make_plan(find_tables(names), settings, seeds=seeds)


def job_of(plan: Plan, table: str, index: int, benchmark: str, seed: int = 0) -> Job:
    return plan.jobs[f"{plan.reads[table, index, benchmark][0]}/seed{seed}"]


def test_rows_and_tables_share_trainings() -> None:
    """Both bands and infrared alone are two tests of one training, whatever table asks."""
    plan = plan_of("csknet/table-3", "csknet/table-4", seeds=2)
    both = job_of(plan, "csknet/table-3", 5, "msrs")
    alone = job_of(plan, "csknet/table-3", 9, "msrs")
    assert both is alone is job_of(plan, "csknet/table-4", 0, "msrs")
    assert [test.name for test in both.scorings] == ["both", "infrared"]
    assert both.rows == (
        "csknet/table-3 CSK-Net both",
        "csknet/table-3 CSK-Net infrared",
        "csknet/table-4 CSK-Net both",
    )
    csknets = {job.identity for job in plan.jobs.values() if job.options.system == "csknet"}
    assert len(csknets) == 5
    assert {job.options.seed for job in plan.jobs.values()} == {0, 1}
    assert both.options.seed == 0
    assert plan.jobs[both.name.replace("seed0", "seed1")].options == replace(both.options, seed=1)


def test_all_tables_of_the_supplement_train_amdanet_once() -> None:
    plan = plan_of(*(f"amdanet/table-{number}" for number in range(1, 7)))
    # AMDANet, 4 x 3 other values, 3 that are left out, and 2 that take a place.
    assert len(plan.jobs) == 1 + 4 * 3 + 3 + 2
    own = job_of(plan, "amdanet/table-1", 3, "mfnet")
    assert len(own.rows) == 6
    assert job_of(plan, "amdanet/table-5", 3, "mfnet") is own
    # On other data the benchmarks' columns are one.
    assert job_of(plan, "amdanet/table-1", 3, "pst900") is own


def test_csknet_takes_its_teacher_from_the_baseline_of_the_same_seed() -> None:
    plan = plan_of("csknet/table-3", seeds=2)
    for seed in range(2):
        baseline = job_of(plan, "csknet/table-3", 0, "msrs", seed)
        assert baseline.scorings[0].name == "visible"
        assert job_of(plan, "csknet/table-3", 5, "msrs", seed).reuses == {"teacher": baseline.name}
        names = list(plan.jobs)
        assert names.index(baseline.name) < names.index(job_of(plan, "csknet/table-3", 5, "msrs", seed).name)
    # Without its row, it is a job all the same, for the ablation's five networks.
    alone = plan_of("csknet/table-4")
    assert len(alone.jobs) == 6
    assert next(iter(alone.jobs.values())).scorings == ()


def test_a_teacher_that_is_trained_otherwise_is_not_taken(
    trees: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(data=[trees["msrs"]])
    assert all(job.reuses for job in plan_of("csknet/table-4", settings=given).jobs.values() if job.scorings)
    monkeypatch.setattr(CSKNetTraining, "phase_recipes", {"paper": {"teacher": {"batch_size": 16}}})
    assert not any(job.reuses for job in plan_of("csknet/table-4", settings=given).jobs.values())


def test_the_paper_budget_is_each_system_as_published(trees: dict[str, str]) -> None:
    given = settings(data=[trees["msrs"], trees["mfnet"], trees["fmb"]])
    plan = plan_of("csknet/table-3", "amdanet/table-6", settings=given)
    csknet = job_of(plan, "csknet/table-3", 5, "msrs").options
    assert (csknet.encoder, csknet.encoder_weights) == ("efficientnet-b3", "imagenet")
    assert (csknet.network, csknet.loss) == ({}, {})
    assert resolve(csknet).recipe("csknet").epochs == 200
    # MSRS has no validation split, MFNet has one; the test split chooses nothing.
    assert (csknet.hold_out, csknet.validation, csknet.select) == (0.1, None, "best")
    on_mfnet = job_of(plan, "amdanet/table-6", 2, "mfnet").options
    assert on_mfnet.validation == "val"
    assert (on_mfnet.encoder, resolve(on_mfnet).recipe().lr) == ("mit_b4", 6.3e-5)
    on_fmb = job_of(plan, "amdanet/table-6", 2, "fmb").options
    assert resolve(on_fmb).recipe().lr == 3e-5
    assert on_fmb.data == f"{trees['fmb']},ignore=none"
    # What the user says of the data wins.
    own = settings(data=[f"{trees['fmb']},ignore=0"])
    assert job_of(plan_of("amdanet/table-6", settings=own), "amdanet/table-6", 2, "fmb").options.data == (
        f"{trees['fmb']},ignore=0"
    )


def test_the_quick_budget_is_alike_for_all() -> None:
    plan = plan_of("csknet/table-3", "amdanet/table-6", settings=replace(QUICK, recipe={"epochs": 3}))
    for job in plan.jobs.values():
        options = job.options
        assert (options.encoder, options.encoder_weights) == (quick.ENCODER, None)
        assert (options.hold_out, options.select) == (0.0, "last")
        recipe = resolve(options).recipe()
        assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.lr) == (3, 8, "adamw", 1e-3)
        assert options.augmentation == {}


def test_an_encoder_of_the_row_s_own_is_kept_for_paper_and_not_for_quick() -> None:
    row = Row("R", "visible", "deeplabv3plus", {"encoder": "resnet50"}, ("50.00",))
    table = replace(TABLES["csknet/table-4"], rows=(row,))
    for budget, encoder, expected in (
        ("paper", None, "resnet50"),
        ("paper", "resnet18", "resnet50"),
        ("quick", None, quick.ENCODER),
        ("quick", "resnet18", "resnet18"),
    ):
        given = settings(budget=budget, on=TINY_SCENES, encoder=encoder, encoder_weights=["resnet50=none"])
        (job,) = make_plan([table], given, seeds=1).jobs.values()
        assert job.options.encoder == expected
        assert job.options.encoder_weights is None
    given = settings(on=TINY_SCENES, encoder_weights=["imagenet", "resnet50=w.safetensors"])
    (job,) = make_plan([table], given, seeds=1).jobs.values()
    assert job.options.encoder_weights == str(Path("w.safetensors").resolve())


def test_an_encoder_s_own_file_leaves_the_others_their_start() -> None:
    """C.E.N. and MMANet have the encoder that is named."""
    plan = plan_of("csknet/table-3", settings=settings(on=TINY_SCENES, encoder_weights=["resnet50=w.pth"]))
    starts = {job.options.system: job.options.encoder_weights for job in plan.jobs.values()}
    assert {starts.pop("cen"), starts.pop("mmanet")} == {str(Path("w.pth").resolve())}
    assert set(starts.values()) == {"imagenet"}
    quickly = settings(budget="quick", on=TINY_SCENES, encoder_weights=["resnet50=w.pth"])
    assert quickly.start_of("resnet18") is None


def test_an_encoder_that_no_job_has_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reproduce", "csknet/table-3", "--on", TINY_SCENES, "--budget", "quick", "--seeds", "1"]
    arguments += ["--rows", "^VI", "--out", str(tmp_path / "out"), "--plan", "--accelerator", "cpu"]
    named = ["--encoder", "test_efficientnet", "--encoder_weights", "test-efficientnet=none"]
    assert main([*arguments, *named]) == 0
    told = "note: --encoder_weights test-efficientnet=...: no job here has that encoder\n"
    assert capsys.readouterr().err == told


def test_phases_of_quick_share_the_epochs() -> None:
    particular = quick.Quick(phases={"a": {"lr": 0.1}}, shares={"a": 0.5, "b": 0.1})
    assert particular.phase_recipes(6) == {"a": {"lr": 0.1, "epochs": 3}, "b": {"epochs": 1}}


def test_a_changed_recipe_changes_every_phase_of_quick() -> None:
    (row,) = (index for index, row in enumerate(TABLES["csknet/table-3"].rows) if row.system == "cddfuse")
    for recipe, expected in (({}, "adam"), ({"optimizer": "sgd"}, "sgd")):
        plan = plan_of("csknet/table-3", settings=replace(QUICK, recipe=recipe))
        job = job_of(plan, "csknet/table-3", row, "msrs")
        assert resolve(job.options).recipe("fusion").optimizer == expected
        assert resolve(job.options).recipe("fusion").epochs == 3


def test_every_phase_of_quick_decays_to_its_end() -> None:
    """SegMiF's own recipe spreads a decay over seven rounds, of which quick has two."""
    plan = plan_of("amdanet/comparison", "csknet/table-3", settings=replace(QUICK, encoder="test_resnet"))
    for job in plan.jobs.values():
        with torch.device("meta"):
            resolved = resolve(job.options)
            phases = create(job.options.system, 3, **resolved.network).phases(resolved.training)
        for phase in phases:
            recipe = resolved.recipe(phase.name)
            steps = 10 * recipe.epochs
            last = recipe.learning_rate(recipe.epochs - 1, steps - 1, 10)
            if phase.name == "segmentation-1":
                # Its decay goes on through the second round.
                after = resolved.recipe("segmentation-2").learning_rate(0, 0, 10)
                assert after <= last < 1.1 * after
            else:
                assert last < 0.2 * recipe.lr, phase.name


def test_the_split_that_is_scored_never_chooses(trees: dict[str, str]) -> None:
    """MFNet's validation pairs choose the checkpoint, unless it is them that are scored."""
    for split, chosen_by in (("test", "val"), ("val", None)):
        given = settings(data=[trees["mfnet"]], test_split=split, encoder_weights=["none"])
        job = job_of(plan_of("amdanet/table-5", settings=given), "amdanet/table-5", 3, "mfnet")
        assert (job.split, job.options.validation) == (split, chosen_by)
        assert job.options.hold_out == 0.1


def test_a_row_that_cannot_be_set_up_keeps_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossband.reproduce.estimate.measured_speed", lambda device: 1e9)
    good = Row("good", "visible", "deeplabv3plus", published=("50.00",))
    rows = (
        replace(good, system="deeplabv4"),
        replace(good, options={"depth": 3}),
        replace(good, at_test={"dice_form": "joint"}),
        replace(good, variants={"scenes": "bright"}),
        good,
    )
    table = replace(TABLES["csknet/table-4"], rows=rows)
    plan = make_plan([table], QUICK, seeds=1)
    assert len(plan.jobs) == 1
    assert "no system 'deeplabv4'" in plan.problems[table.name, 0, "msrs"]
    assert "has no network option depth" in plan.problems[table.name, 1, "msrs"]
    # What is asked of a trained network cannot be a matter of its training.
    assert "has no network option dice_form" in plan.problems[table.name, 2, "msrs"]
    assert "has no variant 'bright'" in plan.problems[table.name, 3, "msrs"]
    assert "no system 'deeplabv4'" in plan_text(plan, Path("nowhere"), Compute("cpu"))


def test_the_name_of_a_job_is_its_training_and_not_its_place(trees: dict[str, str], tmp_path: Path) -> None:
    fake_trees.msrs(tmp_path / "copy")
    here, there = (
        plan_of("csknet/table-4", settings=settings(data=[source])).jobs
        for source in (trees["msrs"], f"msrs:{tmp_path / 'copy'}")
    )
    assert list(here) == list(there)
    other = settings(data=[trees["msrs"]], recipe={"epochs": 9})
    assert not set(here) & set(plan_of("csknet/table-4", settings=other).jobs)


def test_the_name_of_a_job_is_the_same_today_and_tomorrow_and_in_any_order_of_words() -> None:
    """Folders of earlier calls must be found again. A name changes with what it stands for, and then only."""
    (row,) = (row for row in TABLES["csknet/table-4"].rows if len(row.options) == 2)
    turned = replace(row, options=dict(reversed(row.options.items())), label="turned")
    spelled = replace(row, options={**row.options, "gated_unit": True, "decoder_channels": 64}, label="all")
    table = replace(TABLES["csknet/table-4"], rows=(row, turned, spelled))
    plan = make_plan([table], QUICK, seeds=1)
    names = [plan.reads[table.name, index, "msrs"][0] for index in range(3)]
    assert names == ["scenes/csknet-cba37906"] * 3
    turned_round = replace(QUICK, recipe={"lr": 0.1, "epochs": 3})
    other = replace(QUICK, recipe={"epochs": 3, "lr": 0.1})
    assert [*plan_of("csknet/table-4", settings=turned_round).jobs] == [
        *plan_of("csknet/table-4", settings=other).jobs
    ]


@pytest.mark.parametrize(
    ("name", "index", "earlier", "folder"),
    [
        ("csknet/table-3", 5, {"infrared_supervision": "exchanged"}, "csknet-88c3b2cd"),
        ("csknet/table-3", 7, {"head_kernel": 1}, "disoptnet-0b6f642d"),
        ("amdanet/table-1", 3, {"alignment_start": "published"}, "amdanet-e0464cbf"),
    ],
)
def test_a_job_of_an_earlier_version_is_found_by_its_options_and_not_by_today_s_defaults(
    name: str, index: int, earlier: dict[str, object], folder: str
) -> None:
    """The folders are those that revision 5bbc6be gave the rows, whose defaults were these options."""
    row = TABLES[name].rows[index]
    then = replace(row, options={**row.options, **earlier})
    plan = make_plan([replace(TABLES[name], rows=(row, then))], QUICK, seeds=1)
    benchmark = TABLES[name].benchmarks[0]
    today, before = (plan.reads[name, number, benchmark][0] for number in range(2))
    assert before == f"scenes/{folder}"
    assert today != before


def test_a_variant_of_a_benchmark_is_not_that_of_other_data(trees: dict[str, str]) -> None:
    """MRFS's published code has other losses on FMB; scenes are no benchmark."""
    data = settings(data=[trees["mfnet"], trees["fmb"]])
    plan = plan_of("amdanet/comparison", settings=data)
    on_fmb = job_of(plan, "amdanet/comparison", 1, "fmb")
    assert on_fmb.options.variant == "fmb"
    assert resolve(on_fmb.options).training.fusion_gamma == 0.8  # type: ignore[attr-defined]
    assert on_fmb.switches == "mrfs (variant fmb, encoder mit_b4)"
    for key, elsewhere in (("mfnet", data), ("fmb", QUICK)):
        plan = plan_of("amdanet/comparison", settings=elsewhere)
        job = job_of(plan, "amdanet/comparison", 1, key)
        assert job.options.variant is None
        assert resolve(job.options).training.fusion_gamma == 0.5  # type: ignore[attr-defined]


def test_settings_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    """They have the budget as ``preset``."""
    first = settings(on=TINY_SCENES, budget="quick")
    keep(tmp_path, first)
    path = tmp_path / "settings.yaml"
    path.write_text(path.read_text().replace("budget:", "preset:"))
    assert "preset: quick" in path.read_text()
    assert agree(tmp_path, first) == first
    with pytest.raises(OptionError, match="budget quick, not paper"):
        agree(tmp_path, settings(on=TINY_SCENES, budget="paper"))


def test_a_folder_in_which_only_named_encoders_had_weights_can_be_gone_on_with(tmp_path: Path) -> None:
    """As earlier versions took them, all others at random."""
    before = settings(on=TINY_SCENES, encoder_weights=["none", "mit_b4=w.pth"])
    named = {name: of for name, of in before.encoder_weights.items() if name}
    keep(tmp_path, replace(before, encoder_weights=named))
    assert agree(tmp_path, before) == before
    with pytest.raises(OptionError, match="holds runs with encoder_weights"):
        agree(tmp_path, settings(on=TINY_SCENES, encoder_weights=["mit_b4=w.pth"]))


def test_settings_of_a_folder_bind_later_calls(tmp_path: Path, trees: dict[str, str]) -> None:
    first = settings(data=[trees["msrs"]], budget="quick")
    assert agree(tmp_path, first) == first
    assert not list(tmp_path.iterdir())
    keep(tmp_path, first)
    assert yaml.safe_load((tmp_path / "settings.yaml").read_text())["budget"] == "quick"
    both = agree(tmp_path, settings(data=[trees["fmb"]], budget="quick"))
    assert set(both.data) == {"msrs", "fmb"}
    keep(tmp_path, both)
    assert agree(tmp_path, first) == both
    with pytest.raises(OptionError, match="budget quick, not paper; give the same"):
        agree(tmp_path, settings(data=[trees["msrs"]]))
    with pytest.raises(OptionError, match="holds runs with devices 1, not 4"):
        agree(tmp_path, settings(data=[trees["msrs"]], budget="quick", devices=4))
    with pytest.raises(OptionError, match=r"holds runs on msrs:.* not on msrs:/elsewhere"):
        agree(tmp_path, settings(data=["msrs:/elsewhere"], budget="quick"))
    for text in ("- nonsense\n", "data: null\n", "data: {mfnet: 3}\n", "budget: quick\nrecipe: 3\n"):
        (tmp_path / "settings.yaml").write_text(text)
        with pytest.raises(OptionError, match="does not hold settings of tables"):
            agree(tmp_path, first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ["msrs:a"], "on": "scenes"}, "--on takes the place"),
        ({"data": ["folder:a"]}, "write --on instead"),
        ({"data": ["msrs:a", "msrs:b"]}, "names msrs twice"),
        ({"on": "msrs:a"}, "for a benchmark write --data"),
        ({"on": "snow"}, "snow"),
        ({"recipe": {"epoch": 3}}, "no 'epoch'"),
        ({"recipe": {"epochs": "many"}}, "epochs"),
        ({"on": "scenes", "test_split": "train"}, "would score the pairs that were trained on"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict, message: str) -> None:
    with pytest.raises(OptionError) as error:
        settings(**changes)
    assert message in one_line(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs the name of a table"),
        (["csknet/table-3"], "needs --out"),
        (["csknet/table-9", "--on", "scenes"], "did you mean csknet/table-"),
        (["csknet/table-3"], "csknet/table-3 needs --data msrs:PATH; or fill it on other data"),
        (["amdanet/table-6", "--data", "msrs:x"], "needs --data fmb:PATH and --data mfnet:PATH"),
        (["csknet/table-3", "--data", "msrs:no/such/folder"], "no/such/folder"),
        (["csknet/table-3", "--on", "folder:no/such/folder"], "no/such/folder"),
        (["csknet/table-3", "--on", "scenes", "--test_split", "exam"], "no split 'exam'"),
        (["csknet/table-3", "--on", "scenes", "--seeds", "0"], "--seeds must be 1 or more"),
        (["csknet/table-3", "--on", "scenes", "--rows", "RTFNet"], "occurs in no row"),
        (["csknet/table-3", "--on", "scenes", "--address", "auto"], "--launcher ray"),
        (["csknet/table-3", "--on", "scenes", "--cpus", "4"], "--cpus is for a Ray cluster"),
        (
            ["csknet/table-3", "--on", "scenes", "--epochs", "2", "--recipe.epochs", "3"],
            "--epochs is --recipe.epochs: give one of them",
        ),
        (["csknet/table-3", "--on", "scenes", "--budget", "slow"], "budget"),
    ],
)
def test_what_cannot_be_reproduced_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    out = [] if message == "needs --out" else ["--out", "runs"]
    assert message in refused(["reproduce", *arguments, *out], capsys)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_labels_has_no_classes_to_fill_a_table_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        for band in ("visible", "infrared"):
            fake_trees.noise(tmp_path / "pairs" / split / band / "a.png", 3 if band == "visible" else 1)
    source = f"folder:{tmp_path / 'pairs'}"
    line = refused(["reproduce", "csknet/table-3", "--on", source, "--out", str(tmp_path / "out")], capsys)
    assert "no labels in split 'train'" in line
    assert not (tmp_path / "out").exists()


def test_a_folder_without_pairs_to_train_on_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_folder(TINY_SCENES, tmp_path / "pairs")
    (tmp_path / "pairs" / "train").rename(tmp_path / "pairs" / "training")
    source = f"folder:{tmp_path / 'pairs'}"
    line = refused(["reproduce", "csknet/table-3", "--on", source, "--out", str(tmp_path / "out")], capsys)
    assert "has no split 'train', which every row is trained on; it has test, training" in line
    assert not (tmp_path / "out").exists()


def test_list_and_plan_write_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:]] == list(TABLES)
    assert "fmb, mfnet\n" in out
    arguments = ["--on", TINY_SCENES, "--budget", "quick", "--out", "runs", "--seeds", "2", "--plan"]
    encoder = ["--encoder", "test_efficientnet", "--accelerator", "cpu"]
    assert main(["reproduce", "csknet/table-4", "--rows", "^CSK-Net both", *arguments, *encoder]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert out.count("to do ") == 4
    assert out.count("as teacher") == 2
    assert "4 jobs: 4 to do\nabout " in out
    assert "as measured now" in out
    assert not list(tmp_path.iterdir())


def test_the_old_spelling_of_the_budget_goes_on_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("crossband.reproduce.estimate.measured_speed", lambda device: 1e9)
    command = ["reproduce", "csknet/table-4", "--on", TINY_SCENES, "--rows", "^CSK-Net both", "--plan"]
    command += ["--out", str(tmp_path), "--seeds", "1", "--encoder", "test_efficientnet"]
    jobs = []
    for spelling in ("--preset", "--budget"):
        assert main([*command, spelling, "quick"]) == 0
        out, err = capsys.readouterr()
        assert err == ("note: --preset is the old spelling of --budget\n" if spelling == "--preset" else "")
        jobs.append(re.findall(r"scenes/\S+/seed0", out))
    assert jobs[0] == jobs[1]
    assert len(jobs[0]) == 3


def test_operations_are_those_of_a_network_with_weights() -> None:
    """Counted on no values at all, and per phase: 3 forward passes x pairs x epochs."""
    options = TrainOptions(
        "csknet",
        data=TINY_SCENES,
        out="",
        encoder="test_efficientnet",
        network={"decoder_channels": 16},
        hold_out=0.0,
        recipe={"epochs": 5, "batch_size": 4},
        phases={"teacher": {"epochs": 2}},
    )
    student = create("csknet", classes=10, encoder="test_efficientnet", decoder_channels=16)
    teacher = create("deeplabv3plus", classes=10, encoder="test_efficientnet", decoder_channels=16)
    of_student = 3 * count_flops(student, "both", (32, 48)) * 8 * 5
    of_teacher = 3 * count_flops(teacher, "visible", (32, 48)) * 8 * 2
    assert training_operations(options, set()) == of_student + of_teacher
    assert training_operations(options, {"teacher"}) == of_student


@pytest.mark.slow
def test_every_system_of_the_tables_has_an_estimate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("crossband.reproduce.estimate.measured_speed", lambda device: 1e9)
    plan = plan_of(*TABLES)
    ones = {job.options.system: job for job in plan.jobs.values()}
    attention = next(job for job in plan.jobs.values() if "danet" in job.options.network.values())
    jobs = {job.name: job for job in (*ones.values(), attention)}
    assert set(ones) == {row.system for table in TABLES.values() for row in table.rows}
    assert set(estimate_jobs(jobs, tmp_path, Compute("cpu"))) == set(jobs)


def test_estimates_are_in_proportion_to_operations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("crossband.reproduce.estimate.measured_speed", lambda device: 1e9)
    plan = plan_of("csknet/table-4", settings=replace(QUICK, encoder="test_efficientnet"))
    plan.jobs = dict(list(plan.jobs.items())[:2])
    estimates = estimate_jobs(plan.jobs, tmp_path, Compute("cpu"))
    for name, job in plan.jobs.items():
        operations = training_operations(job.options, set(job.reuses))
        assert estimates[name].seconds == operations / 1e9
        assert "1 GFLOP/s" in estimates[name].origin


def test_a_job_is_described_by_what_differs_from_the_defaults() -> None:
    plan = plan_of("csknet/table-4")
    job = job_of(plan, "csknet/table-4", 3, "msrs")
    assert job.switches == f"csknet (decoder_channels=64, exchange=False, encoder {quick.ENCODER})"


def test_a_further_system_has_a_row_for_what_it_was_designed_for() -> None:
    (table,) = find_tables(["csknet/table-3"])
    (longer,) = with_systems([table], ["csknet", "deeplabv3plus", "csknet"])
    assert longer.rows[: len(table.rows)] == table.rows
    added = [(row.system, row.bands) for row in longer.rows[len(table.rows) :]]
    assert added == [("csknet", "both"), ("csknet", "infrared"), ("deeplabv3plus", "visible")]
    # As it stands, the baseline is the row that is printed: they share its training.
    plans = [make_plan([one], QUICK, seeds=1) for one in (table, longer)]
    assert plans[0].jobs.keys() == plans[1].jobs.keys()
    assert not plans[1].problems


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch", "nosuch"),
        ("average", "average is not trained, and the tables are about trained segmentation"),
    ],
)
def test_a_further_system_that_fills_no_table_is_one_line(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["reproduce", "csknet/table-3", "--on", TINY_SCENES, "--with", name, "--out", str(out)]
    assert message in refused(arguments, capsys)
    assert not out.exists()
