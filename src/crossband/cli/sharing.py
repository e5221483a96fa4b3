"""``crossband card`` and ``crossband push``: a run for others to use."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from crossband.errors import OptionError

_LICENCE_HELP = (
    "of the weights, by the hub's name, such as apache-2.0 or cc-by-nc-4.0, or other; what the encoder's "
    "weights and the data allow"
)


def card_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="a finished run folder")
    _licence_arguments(parser)
    parser.add_argument("--out", type=str | None, help="file to write it to (default: print it)")


def card(options: Namespace) -> None:
    """Print a run's model card, or write it."""
    text = _model_card(options)
    if options.out is None:
        print(text, end="")
        return
    from crossband.pairs.writing import write_text

    write_text(Path(options.out), text)
    print(f"written: {options.out}")


def push_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="a finished run folder")
    parser.add_argument("repository", type=str, help="OWNER/NAME on the Hugging Face Hub; made if not there")
    _licence_arguments(parser)
    parser.add_argument(
        *("--to_folder", "--to-folder"),
        type=str | None,
        metavar="DIR",
        help="write what would be sent into this new folder, to look at and to load, and send nothing",
    )
    parser.add_argument("--private", action="store_true", help="where the repository is made: not for all")


def push(options: Namespace) -> None:
    """Put a run on the Hugging Face Hub, with its model card, or into a folder as it would go there."""
    from crossband import hub

    if options.to_folder is not None and options.private:
        raise OptionError("--private is for a repository that is made: leave it out, or --to_folder")
    text = _model_card(options, place=f"{hub.PREFIX}{options.repository}@COMMIT")
    if options.to_folder is not None:
        hub.push_to_folder(Path(options.run), options.repository, text, Path(options.to_folder))
        print(f"written: {options.to_folder}/{{{','.join(hub.SENT)}}}; nothing was sent")
        return
    place = hub.push(Path(options.run), options.repository, text, private=options.private)
    print(f"pushed: cb.load({place!r})")


def _licence_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--license", "--licence", type=str | None, dest="license", help=_LICENCE_HELP)
    parser.add_argument(
        *("--license_name", "--license-name"),
        type=str | None,
        metavar="NAME",
        help="what a licence is called that is other, such as our-licence-1.0",
    )
    parser.add_argument(
        *("--license_link", "--license-link"),
        type=str | None,
        metavar="ADDRESS",
        help="where its text is: an address, or LICENSE for a file that you add to the repository",
    )


def _model_card(options: Namespace, **more: str) -> str:
    from crossband.run_card import check_run

    found = check_run(options.run)
    if found is None:
        raise OptionError(f"{options.run} needs no training, so there is nothing to share: name a run folder")
    if not options.license:
        raise OptionError("give --license, under which the weights may be used, such as --license apache-2.0")
    from crossband.report.model_card import model_card
    from crossband.terms import Licence

    licence = Licence(options.license, options.license_name, options.license_link)
    return model_card(found, Path(options.run), licence=licence, **more)
