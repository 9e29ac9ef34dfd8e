"""A small stand-in for Flamenco's Manager and Worker: compiles a job by a job type's script, and runs its tasks as a worker."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "blender_addon" / "farm" / "latentman.js"
#: what the Manager gives scripts, and what comes of a job in the end
MANAGER = """
var printed = [];
function print() { printed.push(Array.prototype.join.call(arguments, "")); }
var path = {
    join: function () { return Array.prototype.join.call(arguments, "/").replace(/\\/+/g, "/"); },
    dirname: function (text) { return text.substring(0, text.lastIndexOf("/")); },
    basename: function (text) { return text.substring(text.lastIndexOf("/") + 1); }
};
var author = {
    Task: function (name, type) {
        return {
            name: name, type: type, commands: [], dependencies: [],
            addCommand: function (command) { this.commands.push(command); },
            addDependency: function (other) { this.dependencies.push(other); }
        };
    },
    Command: function (name, parameters) { return { name: name, parameters: parameters }; }
};
"""
COMPILE = """
;(function () {
    var tasks = [];
    compileJob({ name: "job", settings: SETTINGS, addTask: function (task) { tasks.push(task); } });
    return JSON.stringify(tasks.map(function (task) {
        return {
            name: task.name, type: task.type, commands: task.commands,
            dependencies: task.dependencies.map(function (other) { return tasks.indexOf(other); })
        };
    }));
})()
"""


@dataclass
class Task:
    """A compiled task; ``dependencies`` are the places of others in the list."""

    name: str
    type: str
    commands: list[dict]
    dependencies: list[int] = field(default_factory=list)


def read_job_type(engine):
    """What the script says of itself."""
    return json.loads(engine.evaljs(MANAGER + SCRIPT.read_text(encoding="utf-8") + ";JSON.stringify(JOB_TYPE)"))


def compile_job(engine, settings) -> list[dict]:
    """The tasks of a job, in the order in which they were added."""
    source = MANAGER + SCRIPT.read_text(encoding="utf-8") + COMPILE.replace("SETTINGS", json.dumps(settings))
    return json.loads(engine.evaljs(source))


def write_blender(folder: Path) -> Path:
    """A program that takes Blender's arguments, ``-b -y FILE --command latentman ...``, where Blender is a package of Python."""
    path = folder / "blender"
    path.write_text(
        f"#!{sys.executable}\n"
        "import os, sys\n"
        "arguments = sys.argv[1:]\n"
        "assert arguments[:2] == ['-b', '-y'] and arguments[3:5] == ['--command', 'latentman'], arguments\n"
        f"os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'latentman.blender_addon', arguments[2], *arguments[5:]])\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def make_command(command: dict, variables: dict[str, str]) -> list[str]:
    """The command line of a ``blender-render`` command, as a worker runs it."""
    assert command["name"] == "blender-render", command

    def replace(text: str) -> str:
        for name, value in variables.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    given = command["parameters"]
    words = [given["exe"], *replace(given["exeArgs"]).split(), *given["argsBefore"], given["blendfile"], *given["args"]]
    return [replace(word) for word in words]


def run_task(task: Task, variables: dict[str, str], cwd: Path) -> tuple[int, str]:
    """(exit code, output) of a task's commands, of which the first that fails is the last."""
    out = ""
    for command in task.commands:
        done = subprocess.run(
            make_command(command, variables),
            cwd=cwd,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        out += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, out
    return 0, out
