#!/bin/bash
# Tests of the native programs on real capsules. Usage: run.sh BUILD-FOLDER, as root.
set -uo pipefail

bin=$1
work=$(mktemp -d /var/tmp/torpor-native-XXXXXX)
v2=$(awk '$0 ~ / - cgroup2 / {print $5; exit}' /proc/self/mountinfo)
cgroups=$v2/torpor-native-test.$$
passed=0
failed=0

check() { # check NAME COMMAND...: passes if the command succeeds
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$name" >&2
  fi
}

end_cgroup() {
  local pid
  # A process that has just died still counts for a moment.
  until rmdir "$1" 2>/dev/null; do
    while read -r pid; do kill -KILL "$pid" 2>/dev/null; done <"$1/cgroup.procs"
    sleep 0.02
  done
}

clean_up() {
  local each
  for each in "$cgroups"/*/; do [ -d "$each" ] && end_cgroup "${each%/}"; done
  [ -d "$cgroups" ] && rmdir "$cgroups"
  rm -rf "$work"
}
trap clean_up EXIT

# make_capsule NAME UID CMD...: writes a spec
make_spec() {
  local name=$1 uid=$2 run=$work/$1 record
  shift 2
  mkdir -p "$run/screen" "$run/bus" "$run/session" "$cgroups/$name"
  chmod 711 "$work" "$run"
  chmod 700 "$run/screen" "$run/bus"
  chown "$uid" "$run/screen" "$run/bus"
  printf '<openbox_config xmlns="http://openbox.org/3.4/rc"/>' >"$run/session/openbox.xml"
  sed 's|<listen>.*</listen>|<listen>unix:path=/run/torpor/bus/session</listen>|' \
    /usr/share/dbus-1/session.conf >"$run/session/bus.conf"
  {
    for record in root=/ "runDir=$run" "initPath=$bin/torpor-init" "cgroup=$cgroups/$name" hostname=native-test \
      geometry=640x480 display=7777 "uid=$uid" "gid=$uid" "groups=$uid" home=/ cwd=/ env=PATH=/usr/bin:/bin env=MARK=marked; do
      printf '%s\0' "$record"
    done
    for record in "$@"; do printf 'arg=%s\0' "$record"; done
  } >"$run/spec"
}

# start NAME UID CMD...: the pid of init, in $init
start() {
  make_spec "$@"
  local answer
  answer=$("$bin/torpor-capsule" start "$work/$1/spec") || return 1
  init=$(sed -n 's/^{"pid":\([0-9]*\)}$/\1/p' <<<"$answer")
  [ -n "$init" ]
}

await_file() {
  local round
  for round in $(seq 1500); do
    [ -e "$1" ] && return 0
    sleep 0.02
  done
  printf 'waited in vain for %s (%s)\n' "$1" "$round" >&2
  return 1
}

inside() { "$bin/torpor-capsule" exec "$init" --env PATH=/usr/bin:/bin "$@"; }
equals() { [ "$1" = "$2" ] || { printf '"%s" is not "%s"\n' "$1" "$2" >&2 && false; }; }
refuses() { ! "$@" >/dev/null 2>&1; }

# exit_of NAME UID CMD...: what init reports of the command's end
exit_of() {
  start "$@" && await_file "$work/$1/exit" && cat "$work/$1/exit"
}

check 'exit status 0' equals '{"code":0}' "$(exit_of zero 0 true)"
check 'exit status 7' equals '{"code":7}' "$(exit_of seven 1 sh -c 'exit 7')"
check 'death by a signal' equals '{"signal":9}' "$(exit_of killed 0 sh -c 'kill -9 $$')"
check 'the output is kept' grep -q 'said this' <(exit_of output 1 sh -c 'echo said this; exit 3' >/dev/null; cat "$work/output/output")

start missing 0 no-such-program-at-all && await_file "$work/missing/failed"
check 'a missing program is named' grep -q 'no command no-such-program-at-all' "$work/missing/failed"

printf 'root=/' >"$work/bad-spec"
check 'a spec without an end is refused' refuses "$bin/torpor-capsule" start "$work/bad-spec"
printf 'nonsense\0' >"$work/bad-spec"
check 'a record without = is refused' refuses "$bin/torpor-capsule" start "$work/bad-spec"
check 'a spec that is not there is refused' refuses "$bin/torpor-capsule" start "$work/none"
make_spec rootless 0 true
sed -i 's|root=/\x0|root=/no/such/folder\x0|' "$work/rootless/spec"
check 'a root that is not there is refused, by name' grep -q '/no/such/folder' <("$bin/torpor-capsule" start "$work/rootless/spec")

start one 1 sleep 1000 && await_file "$work/one/ready"
check 'the application is the user' equals 1 "$(inside -- stat -c %u /proc/"$(inside -- pgrep -x sleep)")"
check 'no descriptor of init leads outside' equals /dev/null "$(for fd in /proc/"$init"/fd/*; do readlink "$fd"; done | sort -u)"
check 'no new privileges for a user' grep -q 'NoNewPrivs:.*1' <(inside --uid 1 --gid 1 -- cat /proc/self/status)
check 'exec gives back the status' equals 42 "$(inside -- sh -c 'exit 42'; echo $?)"
check 'exec of a missing program' equals 127 "$(inside -- no-such-program-at-all 2>/dev/null; echo $?)"
check 'exec passes its input' equals hello "$(echo hello | inside -- cat)"
check 'nested user namespaces are refused' refuses inside --uid 1 --gid 1 -- unshare --user true
check 'nested pid namespaces are refused to root too' refuses inside -- unshare --pid --fork true
check 'nested mount namespaces are allowed to root' inside -- unshare --mount true
# shellcheck disable=SC2016 # Python's.
check 'io_uring does not exist' equals 38 "$(inside -- /usr/bin/python3 -c '
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(425, 1, ctypes.create_string_buffer(120))
print(ctypes.get_errno())')"
first=$init

start two 1 sleep 1000 && await_file "$work/two/ready"
inside -- touch /tmp/only-in-two /dev/shm/only-in-two
init=$first
check 'two capsules have no /tmp in common' refuses inside -- test -e /tmp/only-in-two
check 'nor /dev/shm' refuses inside -- test -e /dev/shm/only-in-two
check 'both have the display they were given' inside -- test -S /tmp/.X11-unix/X7777
check 'the X server has no abstract socket' refuses grep -q '@/tmp/.X11-unix/X7777' /proc/net/unix
check 'unix sockets are listed with peers' grep -q '"state":"established","peer":[1-9]' <("$bin/torpor-sockdiag")
check 'and as JSON' /usr/bin/python3 -c 'import json,subprocess,sys; [json.loads(line) for line in subprocess.check_output([sys.argv[1]]).splitlines()]' "$bin/torpor-sockdiag"

# A connection over which its server has hung up, so that the port is taken for a minute.
# shellcheck disable=SC2016 # Python's.
left_over='
import socket, subprocess, sys, time
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
port = server.getsockname()[1]
client = socket.create_connection(("127.0.0.1", port))
kept = socket.create_connection(("127.0.0.1", port))
served = server.accept()[0]
mine = server.accept()[0]
served.close()
client.recv(1)
client.close()
server.close()
mine.close() if sys.argv[2] == "all" else None
kept.close() if sys.argv[2] == "all" else None
time.sleep(0.1)
def free():
    try:
        with socket.socket() as again:
            again.bind(("127.0.0.1", port))
        return True
    except OSError:
        return False
before = free()
subprocess.run([sys.argv[1], str(port)], check=True)
if sys.argv[2] == "all":
    sys.exit(0 if not before and free() else 1)
kept.sendall(b"x")
sys.exit(0 if mine.recv(1) == b"x" else 1)'
check 'a port is free again of what is left of connections' /usr/bin/python3 -c "$left_over" "$bin/torpor-forget" all
check 'but a connection that somebody has is left alone' /usr/bin/python3 -c "$left_over" "$bin/torpor-forget" some
check 'what is no port is refused' refuses "$bin/torpor-forget" 70000

# shellcheck disable=SC2016 # Python's.
held='
import os, socket, subprocess, sys
TCP_REPAIR = 19
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
client = socket.create_connection(server.getsockname())
served = server.accept()[0]
client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
said = subprocess.run([sys.argv[1], "mend", str(os.getpid())], check=True, stdout=subprocess.PIPE).stdout
client.sendall(b"x")
repair = client.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR)
sys.exit(0 if (said, repair, served.recv(1)) == (b"1\n", 0, b"x") else 1)'
check 'a connection in repair mode goes on' /usr/bin/python3 -c "$held" "$bin/torpor-connections"
check 'a process that is gone has none' "$bin/torpor-connections" mend 2147483646
nft add table inet CRIU-torpor-native-test
check 'the lock of connections is removed' "$bin/torpor-connections" unlock CRIU-torpor-native-test
check 'and is gone then' refuses nft list table inet CRIU-torpor-native-test
check 'a lock that is not there is fine' "$bin/torpor-connections" unlock CRIU-torpor-native-test
check 'a name that is too long for a table is refused' refuses "$bin/torpor-connections" unlock "$(printf 'x%.0s' {1..300})"

# A process whose first thread has ended has given back all that it had, as one does that is just ending.
# shellcheck disable=SC2016 # Python's.
ending='
import ctypes, os, signal, subprocess, sys, threading, time
pid = os.fork()
if pid == 0:
    threading.Thread(target=time.sleep, args=(60,)).start()
    ctypes.CDLL(None).syscall(60, 0)
while open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z":
    time.sleep(0.01)
said = subprocess.run([sys.argv[1]], input=f"inside {pid}\0".encode(), stdout=subprocess.PIPE, check=True).stdout
os.kill(pid, signal.SIGKILL)
sys.exit(0 if b"shared" not in said else 1)'
check 'what is ending has nothing in common with the kernel' /usr/bin/python3 -c "$ending" "$bin/torpor-ties"

# Asks about a process of its own and about a child, which is outside.
# shellcheck disable=SC2016 # Python's.
ties='
import ctypes, json, mmap, os, signal, socket, subprocess, sys
libc = ctypes.CDLL(None)
def ask(*questions):
    asked = subprocess.run([sys.argv[1]], input="".join(each + "\0" for each in questions).encode(), capture_output=True)
    if asked.returncode != 0:
        return []
    return [json.loads(line) for line in asked.stdout.splitlines()]
file = open("/etc/passwd")
queue = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
memory = mmap.mmap(-1, 4096)
ready = os.pipe()
child = os.fork()
if child == 0:
    os.write(ready[1], b"x")
    signal.pause()
os.read(ready[0], 1)
me = os.getpid()
[line] = [line for line in open("/proc/self/maps") if "/dev/zero" in line]
numbers = line.split()[3].split(":") + [line.split()[4]]
major, minor, inode = int(numbers[0], 16), int(numbers[1], 16), int(numbers[2])
target = f"pipe:[{os.fstat(ready[0]).st_ino}]"
cases = {
    "same": lambda: {"kind": "same", "pid": me, "fd": file.fileno(), "other": child}
        in ask(f"inside {me}", f"open {me} {file.fileno()} /etc/passwd"),
    "another": lambda: [each for each in ask(f"inside {me}", f"open {me} {file.fileno()} /etc/hosts")] == [],
    "holder": lambda: {"kind": "holder", "pid": child, "fd": ready[1]} in ask(f"inside {me}", f"held {target}"),
    "inside": lambda: [each for each in ask(f"inside {me}", f"inside {child}", f"held {target}")] == [],
    "mapper": lambda: {"kind": "mapper", "pid": child, "key": f"{major}:{minor}:{inode}"}
        in ask(f"inside {me}", f"mapped {major} {minor} {inode}"),
    "protocol": lambda: ask(f"socket {me} {queue.fileno()}")[0]["name"] == "MPTCP",
    "nothing": lambda: ask() == [] and ask(f"inside {me}") == [],
    "ended": lambda: ask("inside 4194303", "socket 4194303 0", "unread 4194303 0", "open 4194303 0 /etc/passwd") == [],
    "handle": lambda: ask("handle 7 1 00 /proc")[0]["error"] != 0,
}
works = cases[sys.argv[2]]()
os.kill(child, signal.SIGKILL)
sys.exit(0 if works else 1)'
told() { /usr/bin/python3 -c "$ties" "$bin/torpor-ties" "$1"; }
check 'who has the same open file is told' told same
check 'but not for another file' told another
check 'who has an end is told' told holder
check 'but not of those inside' told inside
check 'who has the same memory is told' told mapper
check 'protocols are named' told protocol
check 'nothing is told of what is its own' told nothing
check 'nor of processes that have ended' told ended
check 'a handle of no file is said to be none' told handle
check 'an unknown question is refused' refuses "$bin/torpor-ties" <<<'who are you'

windows() { "$bin/torpor-capsule" windows "$init" --uid 1 --gid 1 --groups 1 --display 7777 -- "$@"; }
start shown 1 xterm -title 'a "quoted" title' && await_file "$work/shown/window"
check 'a window is listed' grep -q '^{"id":[1-9][0-9]*,"title":"a \\"quoted\\" title","class":"XTerm","active":' <(windows list)
id=$(windows list | sed -n 's/^{"id":\([0-9]*\).*/\1/p')
check 'and is brought to the front' windows activate "$id"
check 'another window is refused' equals 3 "$(windows activate 1; echo $?)"
check 'and so is what is no number' refuses windows activate "-$id"
check 'an icon is given, or said to be none' grep -q '^{.*}$' <(windows icon "$id")
check 'without an X server it is said' grep -q 'does not answer' <("$bin/torpor-capsule" windows "$init" --uid 1 --gid 1 --groups 1 --display 7778 -- list 2>&1)
windows close
check 'a window is closed in order' await_file "$work/shown/exit"
init=$first

kill -TERM "$first"
await_file "$work/one/exit"
check 'SIGTERM ends a capsule in order' equals '{"signal":15}' "$(cat "$work/one/exit")"
check 'no mount is left' refuses grep -q "$work" /proc/self/mountinfo

printf 'native: %d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
