"""Runs of qcc as processes, with their time and memory, for the other scripts. QCC names the binary, target/release/qcc
otherwise. Linux only."""
import contextlib, os, shutil, subprocess, sys, tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
QCC = os.environ.get("QCC", os.path.join(ROOT, "target/release/qcc"))

# A small helper process samples the memory of its child, and measures its times.
WATCH = """
import resource, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
peak = 0
while child.poll() is None:
    try:
        lines = open(f"/proc/{child.pid}/status").read().splitlines()
        peak = max([peak] + [int(l.split()[1]) for l in lines if l.startswith("RssAnon")])
    except OSError:
        pass
    time.sleep(0.002)
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(seconds, usage.ru_utime + usage.ru_stime, 1024 * peak / 1e6)
sys.exit(child.returncode)
"""


def watched(command, **how):
    """Time and processor time of a command in seconds, and the peak of its anonymous memory in MB."""
    done = subprocess.run([sys.executable, "-S", "-c", WATCH, *command], stdout=subprocess.PIPE, text=True, **how)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    return [float(figure) for figure in done.stdout.split()]


class Run:
    """A run of qcc: the least time and processor time in seconds, the least peak of anonymous memory and the bytes written in
    MB. Artefacts are written to a temporary folder inside `scratch`, or to the folder `keep`, which is emptied before."""

    def __init__(self, rounds, model, targets, *arguments, scratch=None, keep=None):
        def folder():
            if keep is None:
                return tempfile.TemporaryDirectory(dir=scratch)
            shutil.rmtree(keep, ignore_errors=True)
            os.makedirs(keep)
            return contextlib.nullcontext(str(keep))

        def once():
            with folder() as out:
                figures = watched([QCC, model, "--to", targets, "-q", "-o", out + "/", *arguments])
                return [*figures, sum(entry.stat().st_size for entry in os.scandir(out)) / 1e6]

        columns = zip(*(once() for _ in range(rounds)))
        self.seconds, self.cpu, self.memory, self.written = (min(column) for column in columns)
