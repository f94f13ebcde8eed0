#!/usr/bin/env bash
# Run a command beside a real STAC API (stac-fastapi on pgstac and PostgreSQL), its address in XGLOF_STAC_API:
#   .ci/stac_api.sh pytest tests/cube/test_real_api.py
# Server, database and all that they wrote are gone when the command ends, however it ends.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARGUMENT...]" >&2; exit 2; }
packages=$(cd "$(dirname "$0")" && pwd)/stac_api.txt

work=$(mktemp -d /tmp/stac-api.XXXXXX) # a short path, for that of a socket ends at 107 characters
log=$work/log database=$work/database bin='' api=''

stop() {
  [ -z "$api" ] || { kill "$api" && wait "$api"; } 2>/dev/null || true
  [ ! -f "$database/postmaster.pid" ] || as_owner "$bin/pg_ctl" -D "$database" -m immediate stop >"$log" || true
  rm -rf "$work"
}
trap stop EXIT

fail() {
  cat "$log" >&2
  echo "$0: $*" >&2
  exit 1
}

as_owner() { # PostgreSQL refuses to run as root
  if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

postgres_bin() { # of the newest PostgreSQL that has what pgstac wants
  local bin shared
  for bin in $(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -rV); do
    shared=/usr/share/postgresql/$(basename "$(dirname "$bin")")/extension
    if [ -x "$bin/initdb" ] && [ -f "$shared/postgis.control" ] && [ -f "$shared/btree_gist.control" ]; then
      echo "$bin"
      return
    fi
  done
}

install_postgres() {
  local root=()
  [ "$(id -u)" = 0 ] || root=(sudo -n)
  "${root[@]}" apt-get update -qq &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends postgresql postgresql-postgis
}

bin=$(postgres_bin)
if [ -z "$bin" ]; then
  install_postgres >"$log" 2>&1 || fail "PostgreSQL with PostGIS cannot be installed; do it by hand"
  bin=$(postgres_bin)
  [ -n "$bin" ] || fail "PostgreSQL was installed and has no PostGIS"
fi
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --disable-pip-version-check -r "$packages" >"$log" 2>&1 ||
  fail "the packages of $packages cannot be installed"

# a socket in a closed folder instead of a port: nothing to clash with, and nobody else gets in
chmod 711 "$work"
mkdir -m 700 "$database"
[ "$(id -u)" != 0 ] || chown postgres "$database"
as_owner "$bin/initdb" -D "$database" --username pgstac --auth trust --encoding UTF8 --locale C --no-sync \
  >"$log" 2>&1 || fail "no database could be made in $database"
as_owner "$bin/pg_ctl" -D "$database" -l "$database/log" -w start -o \
  "-c listen_addresses='' -c unix_socket_directories='$database' -c fsync=off -c full_page_writes=off" \
  >"$log" 2>&1 || { cat "$database/log" >>"$log"; fail "the database does not start"; }
connection=(PGUSER=pgstac PGPASSWORD=unused PGPORT=5432 PGDATABASE=postgres)
env "${connection[@]}" PGHOST="$database" "$work/venv/bin/pypgstac" migrate >"$log" 2>&1 ||
  fail "pgstac cannot be set up in the database"

serve() { # the host goes into a URL, where a slash must be quoted; an .env file here would count
  cd "$work"
  exec env "${connection[@]}" PGHOST="${database//\//%2F}" ENABLE_TRANSACTIONS_EXTENSIONS=TRUE \
    "$work/venv/bin/uvicorn" --factory stac_fastapi.pgstac.app:create_app --host 127.0.0.1 --port 0 --no-access-log
}
serve >"$log" 2>&1 &
api=$!
XGLOF_STAC_API=''
for _ in $(seq 300); do
  XGLOF_STAC_API=$(sed -nE 's/.*running on (http:[^ ]+).*/\1/p' "$log")
  if [ -n "$XGLOF_STAC_API" ] || ! kill -0 "$api" 2>/dev/null; then break; fi
  sleep 0.2
done
[ -n "$XGLOF_STAC_API" ] || fail "the API does not start"
export XGLOF_STAC_API
"$@"
