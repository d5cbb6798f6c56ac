"""The command `serve`: an exported model behind TF Serving's addresses, with a page to try it."""

import logging
import os
import sys
from pathlib import Path

from nasnet_keras.checks import check_positive
from nasnet_keras.commands.options import named
from nasnet_keras.commands.terminal import finish, needs, without_greetings
from nasnet_keras.export.folders import check_versions
from nasnet_keras.files import read_secret
from nasnet_keras.serving.address import check_address, check_certificate, check_name

SUMMARY = "serve an exported model as TF Serving does, with a page to try it"
EXAMPLE = "serve --model served/net"
INTERRUPTED = "stopped"


def add_options(parser):
    """Add the options."""
    parser.add_argument("--model", required=True, metavar="DIR", help="what `export` wrote: the folder of versions")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=int, default=8501, help="0 takes any that is free")
    parser.add_argument("--name", help="the model's name in addresses (default: the folder's)")
    parser.add_argument("--max-batch", type=int, default=16, help="images that are run together")
    parser.add_argument("--max-queue", type=int, default=256, help="images that wait; more are refused with 503")
    parser.add_argument("--max-body", type=int, default=32, metavar="MIB", help="greatest size of a request")
    parser.add_argument(
        "--max-pixels", type=float, default=25, metavar="MEGAPIXELS", help="greatest size of an encoded image"
    )
    parser.add_argument("--timeout", type=float, default=30, help="seconds that a client may take to send a request")
    parser.add_argument("--key-file", metavar="FILE", help="holds the key, such as `openssl rand -hex 32` makes")
    help_text = "answered without a key: health, metrics; or all, where other machines may ask and there is none"
    parser.add_argument("--open", nargs="+", choices=("health", "metrics", "all"), default=[], help=help_text)
    parser.add_argument("--certificate", metavar="FILE", help="for HTTPS: the certificate and its chain, in PEM")
    parser.add_argument("--private-key", metavar="FILE", help="for HTTPS: the certificate's key, in PEM")
    help_text = "further names that a request's Host may have, such as a proxy's (default: on loopback none)"
    parser.add_argument("--host-name", nargs="+", metavar="NAME", help=help_text)
    parser.add_argument("--log", choices=("text", "json", "none"), default="text", help="a line for each request")


def check(options):
    """What requests may take, and who may send them."""
    with needs("serve"):
        from nasnet_keras.serving import limits
        from nasnet_keras.serving.access import Access
    for name, unit in (("max_pixels", "megapixels"), ("timeout", "seconds")):
        check_positive(name, getattr(options, name), unit, finite=True)
    with named(body="max_body", pixels="max_pixels", queue="max_queue", batch="max_batch", seconds="timeout"):
        allowed = limits.Limits(
            body=options.max_body * 2**20,
            pixels=round(options.max_pixels * 1e6),
            queue=options.max_queue,
            batch=options.max_batch,
            seconds=options.timeout,
        )
    # The default gives way to a smaller queue; what was asked for does not, be it the same number.
    if options.max_batch > options.max_queue and any(word.startswith("--max-ba") for word in options.words):
        rule = f"at most `max_queue`, {options.max_queue}, as no batch is larger than what waits"
        raise ValueError(f"`max_batch` must be {rule}. Received: {options.max_batch}")
    check_versions(options.model)
    check_name(Path(options.model).resolve().name if options.name is None else options.name)
    address = check_address(options.host, options.port)
    key = None if options.key_file is None else read_secret("key_file", options.key_file)
    with named(key="key_file", hosts="host_name"):
        access = Access(key, tuple(options.open), options.host_name)
    access.check_reach(address)
    check_certificate(options.certificate, options.private_key)
    return {"limits": allowed, "access": access}


def run(options, limits, access):
    """Serve an exported model until somebody stops it."""
    with needs("serve"), without_greetings():
        from nasnet_keras.serving.log import JsonLines
        from nasnet_keras.serving.servable import use_cores
        from nasnet_keras.serving.server import serve
    use_cores(len(os.sched_getaffinity(0)), limits.runners)
    logging.basicConfig(format="nasnet-keras: %(message)s", level=logging.WARNING)
    logging.getLogger("nasnet_keras").setLevel(logging.INFO)
    # What is wrong with a form is in its answer.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    if options.log == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
    logging.getLogger("nasnet_keras.serving.log").setLevel(logging.WARNING if options.log == "none" else logging.INFO)

    def ready(url, version):
        print(f"version {version} is ready: {url} (Ctrl-C stops)", flush=True)
        finish(options, {"url": url, "version": version})
        sys.stdout.flush()

    serve(
        options.model,
        options.host,
        options.port,
        name=options.name,
        limits=limits,
        access=access,
        certificate=options.certificate,
        private_key=options.private_key,
        on_ready=ready,
    )
