"""``docs/settings.md`` is what the declarations say."""

from __future__ import annotations

from typing import Annotated

import msgspec

from latentman.shared.settings import Setting
from tools import write_settings_page
from tools.write_settings_page import PAGE, Group, format_page, list_groups, main, make_row


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == format_page(), "run python -m tools.write_settings_page"
    assert main(["--check"]) == 0


def test_a_stale_page_is_found_and_written_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(write_settings_page, "PAGE", tmp_path / "settings.md")
    assert main(["--check"]) == 1 and "write_settings_page" in capsys.readouterr().err
    (tmp_path / "settings.md").write_text(format_page().replace("1 to 1000", "1 to 999"), encoding="utf-8")
    assert main(["--check"]) == 1
    assert main([]) == 0 and main(["--check"]) == 0


def test_every_line_of_a_table_has_as_many_cells():
    text = format_page().replace(r"\|", "")
    for table in (block for block in text.split("\n\n") if block.startswith("|")):
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_every_setting_has_a_row():
    for group in list_groups():
        for declared in group.settings():
            assert f"| {declared.name} | `{make_row(group, declared)[1].strip('`')}` |" in format_page()


def test_a_row_says_all_that_is_declared():
    class More(msgspec.Struct, frozen=True):
        """More."""

        glow: Annotated[float, Setting("Glow", "How bright | dark", ge=0, le=2, unit="lm")] = 0.5

    group = Group("", "", More)
    assert make_row(group, group.settings()[0]) == ["glow", "`--glow`", "Glow", "0 to 2", "0.5", "lm", "How bright | dark"]
