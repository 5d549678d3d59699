# shellcheck shell=bash
# The Debian packages of each set-up, with what each is for. Sourced by scripts/setup.sh.

# What a capsule and the engine need.
# shellcheck disable=SC2034
PACKAGES_BASE=(
  tigervnc-standalone-server x11-xkb-utils xkb-data xauth # the capsule's X server
  x11-xserver-utils xfonts-base libgl1-mesa-dri           # its resources, fonts and software GL
  openbox                                                 # its window manager
  dbus-daemon dbus-session-bus-common dbus-system-bus-common
  dconf-gsettings-backend libglib2.0-bin                  # settings as the user has them
  fonts-dejavu-core adwaita-icon-theme hicolor-icon-theme shared-mime-info librsvg2-common
  iproute2 nftables util-linux procps tar                 # used by CRIU and by the engine
  libpulse0                                               # by which sound reaches the user's sound server
  ca-certificates gcc make libc6-dev binutils patchelf    # npm, the native build, CRIU's private prefix
  libssl-dev liblz4-dev libzstd-dev                       # hashes and compression of the page store
  mousepad                                                # the application of `torpor demo`
  chromium xdg-utils                                      # the app's windows where there is no Electron; web addresses
)

# The applications of the tests that CI runs, and the tests' own tools.
# shellcheck disable=SC2034
PACKAGES_TESTS=(
  xterm gnome-calculator gimp python3 python3-tk tmux vim htop x11-utils xdotool git shellcheck
  xfce4-panel at-spi2-core # a panel with a tray, and what a screen reader hears of it
  xvfb dunst # a notification daemon and where it shows
  libnotify-bin python3-dbus python3-gi # programs that use a session bus; plugins/template-python
  xdg-desktop-portal xdg-desktop-portal-gtk xclip # what they use there, and a clipboard's owner
  gnome-keyring # a login keyring that unlocks encrypted snapshots
  libjemalloc2 libtcmalloc-minimal4 libmimalloc-dev # allocators that keep what is freed
  mc # a full-screen program, as a job
  openssh-client gpg-agent rsyslog systemd # services outside that a job talks to, the log-in manager among them
  polkitd # who may do what, on a system bus of the tests'
  zstd # to unpack what the page store has packed, by another program
  openssh-server openssh-client # moving to another machine
  imagemagick python3-yaml # pictures of a display; reading electron-builder.yml
  zstd # plain criu and then zstd, in the benchmark
  debootstrap # the other machine of the tests
  qemu-system-x86 busybox-static # and one with a kernel and a CPU of its own
  exfat-fuse exfatprogs # a key
)

# The other applications of `npm run test:apps`.
# shellcheck disable=SC2034
PACKAGES_ALL_APPS=(
  geany libreoffice-writer libreoffice-gtk3 inkscape kcalc default-jdk mpv ffmpeg evince thunderbird firefox-esr
)
