"""The commands that take a model elsewhere: export, serve."""

import logging
import os
import sys

from nasnet_keras.commands.speech import finish, needs, without_greetings
from nasnet_keras.data.loading import decoded
from nasnet_keras.models.applications import load_model


def run_export(options, settings, calibration):
    """Write a SavedModel with its class names and preprocessing inside, or another runtime's file."""
    model = load_model(options.model)
    try:
        if options.format == "saved_model":
            from nasnet_keras.export.saved_model import export_saved_model

            path = export_saved_model(model, options.output, **settings)
        else:
            from nasnet_keras.export.targets import export_target

            images = None
            if calibration is not None:
                images = decoded(calibration, tuple(side or 224 for side in model.input_shape[1:3])).train.images[:]
            with without_greetings():  # of the runtimes
                path = export_target(model, options.output, options.format, batch=options.batch, calibration=images)
    except RuntimeError as error:  # the export is wrong, and nothing was written
        raise ValueError(str(error)) from None
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{path}: {size / 1e6:.1f} MB, run and compared with the network")
    finish(options, {"output": str(path), "bytes": size})


def run_serve(options, limits):
    """Serve an exported model until somebody stops it."""
    with needs("serve"):
        from nasnet_keras.serving.servable import use_cores
        from nasnet_keras.serving.server import serve
    use_cores(len(os.sched_getaffinity(0)), limits.runners)
    logging.basicConfig(format="nasnet-keras: %(message)s", level=logging.WARNING)
    logging.getLogger("nasnet_keras").setLevel(logging.INFO)

    def ready(url, version):
        print(f"version {version} is ready: {url} (Ctrl-C stops)", flush=True)
        finish(options, {"url": url, "version": version})
        sys.stdout.flush()

    serve(options.model, options.host, options.port, name=options.name, limits=limits, on_ready=ready)
