"""The diagram of a call's states, made of the table itself.

python -m tests.call.diagram  # rewrites it in docs/calls.md
"""

from __future__ import annotations

from pathlib import Path

from relaycall.call.state import CallMachine, CallState, Input

DOCUMENT = Path(__file__).parents[2] / "docs" / "calls.md"
BEGIN, END = "<!-- diagram: made by python -m tests.call.diagram -->\n", "<!-- end of the diagram -->\n"


def diagram() -> str:
    """Both sides, in Mermaid."""
    return f"{_side('Who calls', caller=True)}\n{_side('Who is called', caller=False)}"


def _side(title: str, *, caller: bool) -> str:
    arrows: dict[tuple[CallState, str], list[str]] = {}
    for state in CallState:
        for what in Input:
            machine = CallMachine(caller, state=state)
            if machine.handle(what, 0.0) and machine.state is not state:
                meaning = what.value.replace(";", ",") if caller else what.value.partition(";")[0]
                label = meaning if machine.reason is None else f"{meaning} [{machine.reason}]"
                to = "[*]" if machine.state is CallState.ENDED else str(machine.state)
                if machine.caller is not caller:
                    to = f"{to} as the callee"
                arrows.setdefault((state, to), []).append(label)
    names = {to for _, to in arrows if " " in to}
    lines = [
        "```mermaid",
        "---",
        f"title: {title}",
        "---",
        "stateDiagram-v2",
        *(f'    state "{name}" as {_id(name)}' for name in sorted(names)),
        f"    [*] --> {CallState.IDLE}",
        *(f"    {state} --> {_id(to)}: {'<br>'.join(labels)}" for (state, to), labels in arrows.items()),
        "```",
        "",
    ]
    return "\n".join(lines)


def _id(name: str) -> str:
    return name.replace(" ", "_")


def in_document(text: str) -> str:
    """What stands between the markers."""
    return text.split(BEGIN)[1].split(END)[0]


def main() -> None:
    text = DOCUMENT.read_text()
    DOCUMENT.write_text(text.replace(BEGIN + in_document(text), BEGIN + diagram()))


if __name__ == "__main__":
    main()
