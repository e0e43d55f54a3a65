"""A gateway in a container's place: with folders at the root that this machine does not have.

Knative mounts `/oidc` and `/knative-custom-certs`. In a mount namespace of its own the process gets
a root with the machine's folders, and these two beside them, read-only as Knative mounts them.
"""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.e2e.servers import Gateway, MissingError

_SCRIPT = """
set -e
root=$1 folder=$2
shift 2
mount -t tmpfs none "$root"
for entry in /*; do
  if [ -L "$entry" ]; then cp -P "$entry" "$root/"
  elif [ -d "$entry" ]; then
    mkdir -p "$root$entry"
    mount --rbind "$entry" "$root$entry"
    case "$entry" in /proc|/sys|/dev) ;; *) mount -o remount,bind,ro "$root$entry";; esac
  fi
done
mkdir -p "$root/oidc" "$root/knative-custom-certs"
mount --bind "$folder/oidc" "$root/oidc"
mount --bind "$folder/certs" "$root/knative-custom-certs"
mount -o remount,bind,ro "$root/oidc"
mount -o remount,bind,ro "$root/knative-custom-certs"
mount --bind "$folder/state" "$root$folder/state"
[ ! -f "$folder/hosts" ] || mount --bind "$folder/hosts" "$root/etc/hosts"
mount -o remount,ro "$root"
exec chroot "$root" setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


@cache
def _unshare() -> tuple[str, ...]:
    """Return the command that gives a program mounts of its own.

    Raises:
        MissingError: it does not work here.
    """
    command = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "-r", "--mount")
    try:
        subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingError(f"no mount namespaces here: {shlex.join(command)}") from error
    return command


class Container(Gateway):
    """A gateway whose root is read-only, with no capability; its state can be written."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, object],
        env: Mapping[str, str] | None = None,
        *,
        ready: bool = True,
    ) -> None:
        super().__init__(folder, config, env, ready=ready)
        self.oidc, self.certs, self.hosts = folder / "oidc", folder / "certs", folder / "hosts"
        self._root = folder / "root"
        for each in (self.oidc, self.certs, self._root, folder / "state"):
            each.mkdir()

    def command(self) -> Sequence[str]:
        script = ["sh", "-c", _SCRIPT, "container", str(self._root), str(self.folder)]
        return [*_unshare(), *script, *super().command()]
