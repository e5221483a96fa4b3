"""The papers' tables as data: printed figures agree with each other, and footnotes say where they do not."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest

from crossband.errors import OptionError
from crossband.pairs.benchmarks import BENCHMARKS
from crossband.reproduce import csknet_tables as csknet
from crossband.reproduce.sizes import published_size
from crossband.reproduce.table import Cell, Column, Row, Table
from crossband.reproduce.tables import TABLES, choose_rows, find_tables
from crossband.systems import create, list_systems, loss_options, network_options, system_class
from tiny_systems import one_line

MVSS, FMB, MSRS = (TABLES[f"csknet/table-{number}"] for number in (1, 2, 3))
CELLS = [(table, row) for table in TABLES.values() for row in table.rows]


def printed(table: Table, label: str, bands: str) -> float:
    (row,) = (row for row in table.rows if (row.label, row.bands) == (label, bands))
    return float(row.cells[0].text)


def gains(label: str, over: str, bands: str, of: tuple[Table, ...] = (MVSS, FMB, MSRS)) -> list[float]:
    return [round(printed(table, label, bands) - printed(table, over, bands), 2) for table in of]


def test_the_tables_of_both_papers_are_here() -> None:
    assert list(TABLES) == [
        *(f"csknet/table-{number}" for number in range(1, 5)),
        *(f"amdanet/table-{number}" for number in range(1, 7)),
        "amdanet/comparison",
    ]
    assert [len(table.rows) for table in TABLES.values()] == [10, 10, 10, 5, 4, 4, 4, 4, 4, 3, 3]
    cells = [cell.text for _, row in CELLS for cell in row.cells if cell.text]
    # 27 + 5 of CSK-Net; 4 x 12 + 8 + 12 of the supplement; 8 that are collected.
    assert len(cells) == 27 + 5 + 4 * 12 + 8 + 12 + 8
    assert all(40 < float(text) < 90 for text in cells)


@pytest.mark.parametrize(("table", "row"), CELLS, ids=lambda value: getattr(value, "label", None))
def test_every_row_is_well_formed(table: Table, row: Row) -> None:
    assert set(row.variants) <= set(table.benchmarks)
    assert set(table.benchmarks) <= set(BENCHMARKS)
    for column in table.columns:
        cell = table.cell(row, column)
        # As many decimals as the column says, which ours are printed with.
        if cell.text:
            assert len(cell.text.partition(".")[2]) == column.digits
        else:
            assert not cell.source


def test_a_table_without_a_figure_for_every_column_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1 columns, but 'VI' has 2 figures"):
        replace(MSRS, rows=(MSRS.rows[0].printed("64.33", "1.00"),))
    with pytest.raises(ValueError, match="does not say how mfnet is used"):
        replace(MSRS, columns=(Column("mfnet"),))


def test_a_row_prints_what_its_table_does() -> None:
    """Table 2 has no numbers of parameters; the figures and footnotes are those of the column."""
    assert MSRS.parameters(MSRS.rows[0]) == Cell("11.68", csknet.DEEPLAB_SIZE)
    assert FMB.parameters(FMB.rows[0]) == Cell()
    supplement = TABLES["amdanet/table-6"]
    own = supplement.rows[-1]
    assert [supplement.cell(own, column).text for column in supplement.columns] == [
        *("64.8", "77.1", "62.1", "77.4")
    ]
    assert supplement.cell(own, supplement.columns[3]).note
    assert not supplement.cell(own, supplement.columns[2]).note


@pytest.mark.parametrize("name", sorted({row.system for _, row in CELLS}))
def test_rows_ask_for_options_that_their_system_has(name: str) -> None:
    for table, row in CELLS:
        if row.system != name:
            continue
        assert row.recipe in ("paper", *system_class(name).training_class().recipes, "common")
        assert set(row.options) <= {*network_options(name), *loss_options(name)}
        assert set(row.at_test) <= set(network_options(name))
        assert set(row.variants.values()) <= set(system_class(name).variants)
        for use in table.uses.values():
            assert {*use.recipes, *use.augmentations} <= set(list_systems())


def test_sums_that_the_paper_prints_and_that_its_tables_give() -> None:
    """Gains in the text of section 3.2.1 that agree with the tables."""
    assert gains("CSK-Net", "CDDFuse", "both")[:2] == [3.24, 5.96]
    assert gains("CSK-Net", "DisOptNet", "infrared") == [3.18, 1.86, 1.99]
    supplement = TABLES["amdanet/table-6"]
    cbam, _, ours = ([float(cell.text) for cell in row.cells] for row in supplement.rows)
    assert round(ours[0] - cbam[0], 1) == 1.5
    assert round(ours[2] - cbam[2], 1) == 1.3


def test_what_the_text_says_against_its_tables_is_a_footnote_with_the_right_numbers() -> None:
    over_cddfuse = gains("CSK-Net", "CDDFuse", "both")
    assert over_cddfuse[2] == 2.67
    assert round(mean(over_cddfuse), 2) == 3.96
    assert round(mean([3.24, 5.96, 3.81]), 2) == 4.34  # The conclusion's 4.33, cut off.
    assert all(text in csknet.CDDFUSE_GAIN for text in ("+3.81", "+2.67", "+4.33", "+3.96"))
    over_cen = gains("CSK-Net", "C.E.N.", "both")
    assert round(mean(over_cen[:2]), 2) == 2.84
    assert round(mean(over_cen), 2) == 4.67
    both, infrared = gains("CSK-Net", "MMANet", "both"), gains("CSK-Net", "MMANet", "infrared")
    assert (round(sum(both), 2), round(sum(infrared), 2)) == (5.88, 3.67)
    assert round(mean([sum(both), sum(infrared)]), 3) == 4.775
    assert (round(mean(both), 2), round(mean(infrared), 2)) == (1.96, 1.22)
    assert infrared[:2] == [-0.43, -0.39]
    assert round(100 * 11.68 / 99.13) == 12
    assert round(100 * 14.24 / 99.13, 1) == 14.4
    for text in (csknet.CDDFUSE_GAIN, csknet.CEN_GAIN, csknet.MMANET_GAIN):
        assert all(text in table.notes for table in (MVSS, FMB, MSRS))


def test_cells_that_are_doubtful_are_marked() -> None:
    assert printed(MVSS, "CDDFuse", "both") == printed(FMB, "CDDFuse", "both") == 48.41
    marked = [
        (table.name, row.label)
        for table, row in CELLS
        if any(cell.note == csknet.CDDFUSE_TWICE for cell in row.cells)
    ]
    assert marked == [("csknet/table-1", "CDDFuse"), ("csknet/table-2", "CDDFuse")]
    # Second with both bands on MVSS is C.E.N., though MMANet is underlined.
    multi = sorted(printed(MVSS, label, "both") for label in ("C.E.N.", "CDDFuse", "MMANet", "CSK-Net"))
    assert multi[-2] == printed(MVSS, "C.E.N.", "both") > printed(MVSS, "MMANet", "both")
    ablation = TABLES["csknet/table-4"].rows
    assert float(ablation[1].cells[0].text) < float(ablation[4].cells[0].text)
    five, six = TABLES["amdanet/table-5"].rows[-1].cells, TABLES["amdanet/table-6"].rows[-1].cells
    assert (five[1].text, six[3].text) == ("77.1", "77.4")
    assert six[1].text == "77.1"
    assert five[1].note == six[3].note != ""


def test_printed_parameters_follow_from_counts_as_the_footnotes_say() -> None:
    notes = {row.label + row.bands: MSRS.parameters(row).note for row in MSRS.rows}
    assert [MSRS.parameters(row) for row in MSRS.rows] == [MVSS.parameters(row) for row in MVSS.rows]
    assert [MSRS.parameters(row).text for row in MSRS.rows] == [
        *("11.68", "11.68", "99.13", "13.47", "71.70", "14.24", "11.68", "", "88.01", "11.68")
    ]
    deeplab = {
        classes: sum(p.numel() for p in create("deeplabv3plus", classes=classes).parameters())
        for classes in (9, 26)
    }
    assert deeplab == {9: 11_682_241, 26: 11_686_610}
    assert "11,686,610" in notes["VIvisible"]
    assert round((deeplab[9] + 1_188_272) / 1e6, 2) == 12.87
    assert round((deeplab[9] + 1_188_272 + 599_144) / 1e6, 2) == 13.47
    assert "12.87 M" in notes["CDDFuseboth"]
    assert round(88_010_824 - 71_704_536, -4) == 16_310_000
    assert (round(99_127_261 / 1e6, 2), round(99_124_956 / 1e6, 2)) == (99.13, 99.12)


@pytest.mark.parametrize(
    ("index", "deployed"),
    [
        *((0, 11_686_610), (1, 11_686_610), (2, 99_124_956), (3, 11_686_610 + 1_188_272)),
        *((4, 71_704_536), (5, 14_234_390), (6, 11_686_610), (7, 22_940_803)),
        *((8, 47_495_524), (9, 11_686_610)),
    ],
)
def test_parameters_are_counted_at_the_paper_s_size(index: int, deployed: int) -> None:
    """What the specifications of the networks give with the 26 classes of MVSS, on each row's own bands."""
    size = published_size(MVSS.rows[index], MVSS)
    assert size is not None
    assert size.deployed == deployed


def test_the_supplement_agrees_with_itself_on_amdanet() -> None:
    """All tables have a row of AMDANet as it is, with the same figures, and train it once."""
    for number in range(1, 7):
        table = TABLES[f"amdanet/table-{number}"]
        (own,) = (row for row in table.rows if not row.options)
        expected = {"mfnet": "62.1", "fmb": "64.8", "pst900": "88.5"}
        for column in table.columns:
            if column.measure == "mean_iou":
                assert table.cell(own, column).text == expected[column.benchmark]
            # The tables say of it that it is the best.
            values = [float(table.cell(row, column).text) for row in table.rows]
            assert max(values) == float(table.cell(own, column).text)
    _, mrfs, ours = ([cell.text for cell in row.cells] for row in TABLES["amdanet/comparison"].rows)
    assert [round(float(our) - float(their), 1) for our, their in zip(ours, mrfs, strict=True)] == [
        *(3.0, 3.6, 1.6)
    ]


def test_unknown_tables_and_rows_are_one_line() -> None:
    with pytest.raises(OptionError) as error:
        find_tables(["csknet/table-33"])
    assert "did you mean csknet/table-3?" in one_line(error.value)
    assert find_tables(["all"]) == list(TABLES.values())
    assert find_tables(["csknet/table-3", "csknet/table-3"]) == [MSRS]
    assert choose_rows([MSRS], ["^vi", "csk-net inf"]) == {"csknet/table-3": [0, 9]}
    with pytest.raises(OptionError, match="occurs in no row; there are VI visible, "):
        choose_rows([MSRS], ["visible light"])
    with pytest.raises(OptionError, match="no regular expression"):
        choose_rows([MSRS], ["("])
