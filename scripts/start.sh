#!/bin/bash
# The second half of `npm start`: opens the app in this checkout, and says what else there is to try.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin/torpor ui
cat <<'TEXT'

To see a suspend and a resume at once: bin/torpor demo. To end the app: bin/torpor ui --quit.
TEXT
