"""Any order of changes by the user, the library and us: foreign things stay, ours are known, applying is final.

The model of the world is small: which models are where, what the user put into the app's folder, and which links the
user broke. Whether links are right is asked of the disk.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pumas.links.applying import KEPT_FOLDER

from .setup import APP, TAG, Setup, write

NAMES = ("a", "b", "c")
IDS = {name: f"diffusion/sdxl/{name}" for name in NAMES}
# All models have a file of one name, so that names collide.
FILES = ("own.safetensors", "model.safetensors")
FOLDERS = ("checkpoints", "loras")
PLACES = tuple(f"{folder}/{name}" for folder in FOLDERS for name in ("own.safetensors", "model.safetensors", "x"))

name = st.sampled_from(NAMES)
place = st.sampled_from(PLACES)


class Links(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.mkdtemp(dir="/dev/shm")
        self.setup = Setup(Path(self.folder) / "root")
        self.foreign: dict[str, bytes | str] = {}
        self.kept: list[bytes | str] = []
        self.count = 0
        for one in NAMES:
            self.setup.model(IDS[one], *FILES)

    def teardown(self) -> None:
        if hasattr(self, "setup"):
            self.setup.close()
            shutil.rmtree(self.folder)

    # -- the library -------------------------------------------------------------------------------------------------

    def present(self) -> list[str]:
        return [one for one in NAMES if (self.setup.library / IDS[one]).is_dir()]

    @rule(one=name)
    def delete(self, one: str) -> None:
        if one in self.present():
            self.setup.trash.delete(IDS[one])

    @rule(one=name)
    def restore(self, one: str) -> None:
        for entry in self.setup.trash.list():
            if entry.model_id == IDS[one] and one not in self.present():
                self.setup.trash.restore(entry.trash_id)

    @rule(one=name)
    def import_again(self, one: str) -> None:
        if one not in self.present():
            self.setup.model(IDS[one], *FILES)

    @rule(one=name, file=st.sampled_from(FILES))
    def lose_a_file(self, one: str, file: str) -> None:
        (self.setup.library / IDS[one] / file).unlink(missing_ok=True)

    @rule(one=name, text=st.sampled_from(["{}", '{"version_ranges": {"comfyui": "<0.1"}}', "{broken"]))
    def change_overrides(self, one: str, text: str) -> None:
        if one in self.present():
            write(self.setup.library / IDS[one] / "overrides.json", text.encode())

    @rule(folder=st.sampled_from(FOLDERS))
    def change_rules(self, folder: str) -> None:
        rules = {"mappings": [{"target_subdir": folder, "patterns": ["*.safetensors"]}]}
        write(self.setup.layout.mapping_rules / "comfyui_*_default.json", json.dumps(rules).encode())

    # -- the user in the app's folder --------------------------------------------------------------------------------

    @rule(where=place, kind=st.sampled_from(["file", "link", "dangling"]))
    def put_something(self, where: str, kind: str) -> None:
        path = self.setup.models / where
        path.parent.mkdir(parents=True, exist_ok=True)
        if where in self.foreign or (os.path.lexists(path) and not path.is_symlink()):
            return
        path.unlink(missing_ok=True)  # a link of ours that the user replaces
        self.count += 1
        if kind == "file":
            self.foreign[where] = f"theirs {self.count}".encode()
            path.write_bytes(f"theirs {self.count}".encode())
        else:
            text = (
                f"/elsewhere/{self.count}" if kind == "dangling" else f"{self.setup.library}/{IDS['a']}/?{self.count}"
            )
            self.foreign[where] = text
            path.symlink_to(text)

    @rule(where=place)
    def remove_a_link(self, where: str) -> None:
        path = self.setup.models / where
        if path.is_symlink() and where not in self.foreign:
            path.unlink()

    # -- us ----------------------------------------------------------------------------------------------------------

    @rule()
    def apply(self) -> None:
        self.setup.apply()
        again = self.setup.apply()
        assert (again.created, again.removed) == (0, 0)
        assert not self.setup.plan().changes

    @rule(words=st.dictionaries(st.sampled_from(list(IDS.values())), st.sampled_from(["overwrite", "rename", "skip"])))
    def resolve(self, words: dict[str, str]) -> None:
        done = self.setup.apply(words)
        for one in done.kept:
            self.kept.append(self.foreign.pop(os.path.relpath(one["target_path"], self.setup.models)))
        assert done.errors == []

    @rule(ids=st.lists(st.sampled_from(list(IDS.values()))))
    def sync(self, ids: list[str]) -> None:
        self.setup.apply(model_ids=ids)

    @rule()
    def clean(self) -> None:
        self.setup.work.clean_broken()
        assert self.setup.work.health(APP, None).broken == []

    @rule()
    def remove_orphans(self) -> None:
        self.setup.work.remove_orphans(APP, TAG, [])
        assert self.setup.plan().unwanted == []

    @rule()
    @precondition(lambda self: hasattr(self, "setup"))
    def start_anew(self) -> None:
        self.setup.close()
        self.setup = Setup(self.setup.layout.root)
        self.setup.trash.recover()
        self.setup.keeper.recover()

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def foreign_things_are_where_they_were(self) -> None:
        if not hasattr(self, "setup"):
            return
        for where, what in self.foreign.items():
            path = self.setup.models / where
            assert (os.readlink(path) if isinstance(what, str) else path.read_bytes()) == what
        aside = {path for path in self.setup.models.rglob("*") if KEPT_FOLDER in path.parts or ".old" in path.name}
        contents = [
            os.readlink(p) if p.is_symlink() else p.read_bytes() for p in aside if p.is_symlink() or p.is_file()
        ]
        assert sorted(map(str, contents)) == sorted(map(str, self.kept))

    @invariant()
    def each_link_is_registered_or_not_ours(self) -> None:
        if not hasattr(self, "setup"):
            return
        rows = self.setup.links()
        for where, text in self.setup.tree().items():
            if KEPT_FOLDER in where or ".old" in where or where in self.foreign:
                continue
            assert where in rows and text.startswith("-> "), where
            assert f"shared-resources/models/{rows[where]}/" in text, "it leads to the model that its row names"

    @invariant()
    def models_in_the_trash_have_no_links(self) -> None:
        if hasattr(self, "setup"):
            missing = {IDS[one] for one in NAMES} - {IDS[one] for one in self.present()}
            assert not missing & set(self.setup.links().values())


TestLinks = Links.TestCase
TestLinks.settings = settings(
    max_examples=int(os.environ.get("PUMAS_STATE_RUNS", "40")),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize="PUMAS_STATE_RUNS" not in os.environ,
)
