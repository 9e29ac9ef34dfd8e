// SPDX-License-Identifier: GPL-3.0-or-later
//
// A job type for Flamenco 3: put this file into the folder "scripts" beside flamenco-manager and start the Manager again.
//
// Each shot's passes are rendered in chunks, its look is made once from all of them, and its frames are made in chunks from the
// look; at the end they are put together. A task that is given again goes on where it stopped, or does the same again.
// Written in ECMAScript 5.1.

var JOB_TYPE = {
    label: "LatentMan",
    description: "Frames of animated characters by an image model: passes, look, frames, and a movie of them",
    settings: [
        {
            key: "shots", type: "string", required: true,
            eval: "C.scene.latentman.write_shots()",
            evalInfo: { showLinkButton: true, description: "The marked shots of the scene, but for those with a camera or view layer of their own; else its frame range" },
            description: "Frames like 1-24, or several shots like 'close: 1-24; wide: 25-60'"
        },
        {
            key: "prompt", type: "string", required: true,
            eval: "C.scene.latentman.read_prompt('prompt')",
            evalInfo: { showLinkButton: true, description: "The panel's prompt" },
            description: "What the frames show"
        },
        {
            key: "negative_prompt", type: "string",
            eval: "C.scene.latentman.read_prompt('negative_prompt')",
            evalInfo: { showLinkButton: true, description: "The panel's negative prompt" },
            description: "What they do not show"
        },
        {
            key: "model", type: "string", required: true,
            eval: "C.scene.latentman.get_model()",
            evalInfo: { showLinkButton: true, description: "The panel's model" },
            description: "The image model; every worker has it under this name or path"
        },
        {
            key: "preset", type: "string", required: true, default: "surface", choices: ["surface", "surface_fast"],
            description: "The method; only those that make a look can be shared"
        },
        {
            key: "seed", type: "int32", default: 0,
            eval: "C.scene.latentman.seed",
            evalInfo: { showLinkButton: true, description: "The panel's seed" },
            description: "The seed of the noise"
        },
        {
            key: "size", type: "string", required: true, default: "512x512",
            description: "Width and height of the frames"
        },
        {
            key: "subjects", type: "string", default: "character", choices: ["character", "characters", "scene"],
            description: "What the image model sees of the scene"
        },
        {
            key: "passes_chunk", type: "int32", default: 24, propargs: { min: 1 }, visible: "submission",
            description: "Frames in a task that renders passes"
        },
        {
            key: "frames_chunk", type: "int32", default: 8, propargs: { min: 1 }, visible: "submission",
            description: "Frames in a task that makes frames"
        },
        {
            key: "output", type: "string", subtype: "dir_path", required: true,
            eval: "str(Path(abspath('//')) / 'latentman' / jobname)",
            evalInfo: { showLinkButton: true, description: "A folder beside the file" },
            description: "A folder that every worker reaches under this path"
        },
        {
            key: "frames_task_type", type: "string", default: "blender", choices: ["blender", "misc"], visible: "submission",
            description: "The type of the tasks that need a graphics card, for workers that take only such"
        },
        {
            key: "more", type: "string", default: "", visible: "submission",
            description: "Further arguments of 'latentman look', such as --steps 20"
        },
        {
            key: "blendfile", type: "string", required: true, visible: "web",
            description: "The file with the scene"
        },
        {
            key: "scene", type: "string", required: true, visible: "web",
            eval: "C.scene.name",
            description: "The scene of shots that name none"
        }
    ]
};

function compileJob(job) {
    var settings = job.settings;
    var shots = readShots(settings.shots);
    var made = [];
    for (var n = 0; n < shots.length; n++) {
        made = made.concat(addShot(job, settings, shots[n]));
    }
    var args = ["assemble"];
    for (n = 0; n < shots.length; n++) {
        args.push(path.join(findFolder(settings, shots[n]), "frames"));
    }
    args = args.concat(["--out", settings.output, "--scene", settings.scene]);
    if (shots.length === 1) {
        args.push(joinArgument("--frames", shots[0].frames));
    }
    var last = makeTask("put together", "blender", settings, args);
    for (n = 0; n < made.length; n++) {
        last.addDependency(made[n]);
    }
    job.addTask(last);
    print("LatentMan: " + shots.length + " shots, " + made.length + " tasks that make frames");
}

// The tasks of one shot; returns those that make its frames.
function addShot(job, settings, shot) {
    var folder = findFolder(settings, shot);
    var passes = path.join(folder, "passes");
    var look = path.join(folder, "shot.look");
    var prefix = shot.name ? shot.name + ": " : "";

    var lookTask = makeTask(prefix + "look", settings.frames_task_type, settings, [
        "backend", "look", passes,
        joinArgument("--frames", shot.frames),
        joinArgument("--prompt", settings.prompt)
    ].concat(
        settings.negative_prompt ? [joinArgument("--negative-prompt", settings.negative_prompt)] : [],
        ["--model", settings.model, "--preset", settings.preset, "--seed", String(settings.seed || 0), "--out", look],
        splitArguments(settings.more || "")
    ));
    var chunks = chunkFrames(shot.frames, settings.passes_chunk);
    for (var n = 0; n < chunks.length; n++) {
        var task = makeTask(prefix + "passes " + chunks[n], "blender", settings, [
            "passes",
            "--scene", shot.scene || settings.scene,
            joinArgument("--frames", chunks[n]),
            joinArgument("--part-of", shot.frames),
            "--size", settings.size,
            "--subjects", settings.subjects || "character",
            "--plain-shadow",
            "--out", passes
        ]);
        job.addTask(task);
        lookTask.addDependency(task);
    }
    job.addTask(lookTask);

    var made = [];
    chunks = chunkFrames(shot.frames, settings.frames_chunk);
    for (n = 0; n < chunks.length; n++) {
        var frames = makeTask(prefix + "frames " + chunks[n], settings.frames_task_type, settings, [
            "backend", "generate", passes,
            "--look", look,
            joinArgument("--frames", chunks[n]),
            "--out", path.join(folder, "frames")
        ]);
        frames.addDependency(lookTask);
        job.addTask(frames);
        made.push(frames);
    }
    return made;
}

// A task that runs a command of LatentMan in Blender; nothing else has to be installed on a worker.
function makeTask(name, type, settings, args) {
    var task = author.Task(name, type || "blender");
    task.addCommand(author.Command("blender-render", {
        exe: "{blender}",
        exeArgs: "{blenderArgs}",
        argsBefore: [],
        blendfile: settings.blendfile,
        args: ["--command", "latentman"].concat(args)
    }));
    return task;
}

// A value may begin with a minus.
function joinArgument(name, value) {
    return name + "=" + value;
}

function findFolder(settings, shot) {
    return shot.name ? path.join(settings.output, shot.name) : settings.output;
}

// "1-24" or "close: 1-24; wide @ Street: 25-60" -> [{name, scene, frames}]
function readShots(text) {
    var shots = [], names = {};
    var parts = String(text).split(";");
    for (var n = 0; n < parts.length; n++) {
        var part = parts[n].trim();
        if (!part) {
            continue;
        }
        // a colon before a step has no blank behind it
        var colon = part.indexOf(": ");
        var left = colon < 0 ? "" : part.substring(0, colon).trim();
        var at = left.indexOf("@");
        var shot = {
            name: (at < 0 ? left : left.substring(0, at)).trim().replace(/[\\\/:*?<>|\x22]/g, "_"),
            scene: at < 0 ? "" : left.substring(at + 1).trim(),
            frames: (colon < 0 ? part : part.substring(colon + 2)).replace(/\s+/g, "")
        };
        if (/^\.*$/.test(shot.name) && shot.name) {
            throw "'" + left + "' is no name of a folder; give the shot another name.";
        }
        if (names[shot.name.toLowerCase()]) {
            throw "Two shots are called '" + shot.name + "'; each needs a name of its own.";
        }
        names[shot.name.toLowerCase()] = true;
        listFrames(shot.frames);
        shots.push(shot);
    }
    if (!shots.length) {
        throw "There are no shots; give frames like 1-24.";
    }
    if (shots.length > 1 && names[""]) {
        throw "One of several shots has no name; write them like 'close: 1-24; wide: 25-60'.";
    }
    return shots;
}

// "1-5", "1-9:2" or "3,7" -> numbers
function listFrames(text) {
    var frames = [];
    var parts = text.split(",");
    for (var n = 0; n < parts.length; n++) {
        var found = /^(-?\d{1,7})(?:-(-?\d{1,7}))?(?::(\d{1,7}))?$/.exec(parts[n]);
        var first = found ? parseInt(found[1], 10) : 0;
        var last = found && found[2] !== undefined ? parseInt(found[2], 10) : first;
        var step = found && found[3] !== undefined ? parseInt(found[3], 10) : 1;
        if (!found || last < first || step < 1) {
            throw "'" + text + "' is not a frame range; write it like 1-24, 1-24:2 or 3,5,9.";
        }
        for (var frame = first; frame <= last; frame += step) {
            frames.push(frame);
        }
    }
    return frames;
}

// Frames in chunks of a size, each as short text: "1-24" and 10 -> ["1-10", "11-20", "21-24"]
function chunkFrames(text, size) {
    var frames = listFrames(text), chunks = [];
    size = Math.max(1, size || 1);
    for (var n = 0; n < frames.length; n += size) {
        chunks.push(writeFrames(frames.slice(n, n + size)));
    }
    return chunks;
}

function writeFrames(frames) {
    var step = frames.length > 1 ? frames[1] - frames[0] : 1;
    for (var n = 1; n < frames.length; n++) {
        if (frames[n] - frames[n - 1] !== step || step < 1) {
            return frames.join(",");
        }
    }
    var last = frames[frames.length - 1];
    return frames.length === 1 ? String(frames[0]) : frames[0] + "-" + last + (step > 1 ? ":" + step : "");
}

// Words that blanks part, but not within quotes.
function splitArguments(text) {
    var words = text.match(/(?:[^\s\x22\x27]+|\x22[^\x22]*\x22|\x27[^\x27]*\x27)+/g) || [];
    for (var n = 0; n < words.length; n++) {
        words[n] = words[n].replace(/\x22([^\x22]*)\x22|\x27([^\x27]*)\x27/g, function (all, double, single) {
            return double !== undefined ? double : single;
        });
    }
    return words;
}
