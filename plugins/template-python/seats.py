#!/usr/bin/python3
"""A plugin to begin with: a suspended application gives its seats back for others to take, and takes them again when
it is resumed. Replace the class Seats by what your plugin is for, and the name by one of yours.

Needs Debian's python3-gi, and nothing else of Torpor. docs/plugins.md says when each method is called.
"""
import json
import os
import re
import signal
import sys
from pathlib import Path

from gi.repository import Gio, GLib

NAME = "org.example.SeatsPython"
VERSION = 1

# The interface as Torpor's api/io.github.torpor.Plugin1.xml has it. GLib answers calls of another form with an error.
INTERFACE = """
<node>
  <interface name="io.github.torpor.Plugin1">
    <method name="Describe">
      <arg name="host" type="u" direction="in"/>
      <arg name="description" type="a{sv}" direction="out"/>
    </method>
    <method name="Inspect">
      <arg name="workload" type="a{sv}" direction="in"/>
      <arg name="findings" type="aa{sv}" direction="out"/>
    </method>
    <method name="PreSuspend">
      <arg name="workload" type="a{sv}" direction="in"/>
      <arg name="state" type="ay" direction="out"/>
    </method>
    <method name="PostResume">
      <arg name="workload" type="a{sv}" direction="in"/>
      <arg name="state" type="ay" direction="in"/>
      <arg name="findings" type="aa{sv}" direction="out"/>
    </method>
    <method name="Abort">
      <arg name="workload" type="a{sv}" direction="in"/>
      <arg name="state" type="ay" direction="in"/>
    </method>
  </interface>
</node>
"""


class Seats:
    """Files in a folder, each of which one workload at a time may hold, as the seats of a floating licence. In the file
    is the id of the workload that holds it."""

    # Without a dot, so that what is set aside, `.NAME.ID`, can be told from a seat.
    PATTERN = re.compile(r"[A-Za-z0-9][\w-]{0,99}", re.ASCII)

    def __init__(self, folder):
        self.folder = folder

    def held_by(self, workload):
        return [name for name in self._files() if self.PATTERN.fullmatch(name) and self._holder(name) == workload]

    def give_back(self, workload):
        """Lets go of all that a workload holds. Returns what it has let go of, now or by an earlier call."""
        # A seat is set aside rather than removed: should this program end before its answer has reached the engine,
        # which then has no state, the files still say what there is to be undone.
        for name in self.held_by(workload):
            os.rename(self.folder / name, self._aside(name, workload))
        return self.given_back_by(workload)

    def given_back_by(self, workload):
        end = f".{workload}"
        names = [name[1:-len(end)] for name in self._files() if name.startswith(".") and name.endswith(end)]
        return [name for name in names if self.PATTERN.fullmatch(name)]

    def take(self, names, workload):
        """Takes these seats for a workload; what it has already stays its. Returns those that another one has by now,
        each with the workload that has it."""
        if names:
            self.folder.mkdir(parents=True, exist_ok=True)
        taken = []
        for name in names:
            aside = self._aside(name, workload)
            aside.write_text(f"{workload}\n")
            try:
                # A link is made whole or not at all, and not over what is there.
                os.link(aside, self.folder / name)
            except FileExistsError:
                if self._holder(name) != workload:
                    taken.append((name, self._holder(name)))
            aside.unlink()
        return taken

    def _aside(self, name, workload):
        return self.folder / f".{name}.{workload}"

    def _holder(self, name):
        try:
            return (self.folder / name).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def _files(self):
        return sorted(os.listdir(self.folder)) if self.folder.is_dir() else []


class Plugin:
    """One method for each of the interface. What one raises reaches the engine as an error with that message."""

    def __init__(self, seats):
        self.seats = seats

    def Describe(self, host):
        return {
            "version": GLib.Variant("u", VERSION),
            "title": GLib.Variant("s", "Seats (Python)"),
            # An application that is suspended without it only keeps its seat from others.
            "policy": GLib.Variant("s", "optional"),
            "after": GLib.Variant("as", []),
            # It is not to find itself without a seat, not even for a moment.
            "beforeItRuns": GLib.Variant("b", True),
            "kinds": GLib.Variant("as", ["capsule", "job"]),
        }

    # Touches nothing: it is also called by `torpor inspect`, and by suspends that then come to nothing.
    def Inspect(self, workload):
        return [
            finding("handled", f"It holds the seat {name}, which others can have while it is suspended.")
            for name in self.seats.held_by(workload["id"])
        ]

    # May come twice, since the engine asks once more where the first answer was an error or got lost.
    def PreSuspend(self, workload):
        return json.dumps(self.seats.give_back(workload["id"])).encode()

    # The id is another one than at the suspend where the resume makes a copy, which needs a seat of its own.
    def PostResume(self, workload, state):
        hint = "It runs without; end the other one and choose a seat anew."
        return [
            finding("degraded", f"Its seat {name} has been taken by {by}.", hint)
            for name, by in self.seats.take(self._given_back(workload, state), workload["id"])
        ]

    def Abort(self, workload, state):
        # After a suspend its processes run on, and get the seats back. After a resume nothing of it runs.
        if workload["pids"]:
            self.seats.take(self._given_back(workload, state), workload["id"])
        else:
            self.seats.give_back(workload["id"])

    def _given_back(self, workload, state):
        # The engine has none where PreSuspend did not answer in time, or this program ended in the middle of it.
        if not state:
            return self.seats.given_back_by(workload["id"])
        # The state is opaque to the engine. It may come back weeks later, to a newer version of this program: check it.
        names = json.loads(bytes(state))
        if not isinstance(names, list) or not all(isinstance(n, str) and Seats.PATTERN.fullmatch(n) for n in names):
            raise ValueError("the state is no list of seats")
        return names


def finding(verdict, what, hint=""):
    texts = {"tie": "seat", "verdict": verdict, "what": what, "hint": hint}
    return {key: GLib.Variant("s", text) for key, text in texts.items()}


def serve(name, plugin):
    """Registers the plugin and answers the engine until that goes: whoever started this program starts it again. GLib
    hands over one call at a time, so that an Abort waits for a PreSuspend that took too long."""
    methods = Gio.DBusNodeInfo.new_for_xml(INTERFACE).interfaces[0]
    returned = {method.name: "".join(arg.signature for arg in method.out_args) for method in methods.methods}

    def answer(_connection, _sender, _path, _interface, method, arguments, call):
        try:
            result = getattr(plugin, method)(*arguments.unpack())
            values = (result,) if returned[method] else ()
            call.return_value(GLib.Variant(f"({returned[method]})", values))
        except Exception as error:
            call.return_dbus_error("org.example.Seats.Failed", f"{type(error).__name__}: {error}")

    flags = Gio.DBusConnectionFlags
    connection = Gio.DBusConnection.new_for_address_sync(
        os.environ["TORPOR_BUS_ADDRESS"],
        flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION,
        None,
        None,
    )
    connection.register_object("/io/github/torpor/Plugin1", methods, answer, None, None)
    loop = GLib.MainLoop()
    # The bus may go with the engine, or stay.
    connection.connect("closed", lambda *_: loop.quit())
    engine = "io.github.torpor.Engine1"
    Gio.bus_watch_name_on_connection(connection, engine, Gio.BusNameWatcherFlags.NONE, None, lambda *_: loop.quit())
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, loop.quit)
    connection.call_sync(
        engine,
        "/io/github/torpor/Engine1",
        engine,
        "RegisterPlugin",
        GLib.Variant("(s)", (name,)),
        None,
        Gio.DBusCallFlags.NONE,
        -1,
        None,
    )
    loop.run()


if __name__ == "__main__":
    if "TORPOR_BUS_ADDRESS" not in os.environ:
        sys.exit("TORPOR_BUS_ADDRESS is not set: the engine starts this program.")
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    try:
        serve(NAME, Plugin(Seats(Path(state_home) / "seats")))
    except GLib.Error as error:
        sys.exit(error.message)
