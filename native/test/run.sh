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
  mkdir -p "$run/screen" "$run/session" "$cgroups/$name"
  chmod 711 "$work" "$run"
  chmod 700 "$run/screen"
  chown "$uid" "$run/screen"
  printf '<openbox_config xmlns="http://openbox.org/3.4/rc"/>' >"$run/session/openbox.xml"
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
