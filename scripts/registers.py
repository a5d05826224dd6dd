#!/usr/bin/env python3
"""scripts/registers.py [PROGRAM]   fails where the sums of a product leave the registers

An array of sums that any loop picks from by number, or one sum more than there are registers, and the compiler stores each
sum to the stack behind its multiply-add: all results are right, and the product takes twice as long. No test sees it, and
valgrind, which counts instructions, knows no AVX-512. So this reads the program (by default the release build that ./run
makes): in each innermost loop with multiply-adds on whole vectors of AVX2 and AVX-512, fewer than half of them may be followed
by a store of their result to the stack. Needs objdump and addr2line, which come with a C compiler on Linux.
"""
import os
import platform
import re
import shutil
import subprocess
import sys

NOT_RUN = 77
# Loops in which the sums are stored, as measured, and why they may be. To be taken out when they are mended.
KNOWN = {
    "norm/statistics.rs": (2, "AVX2: sums in f64 are four registers a vector, more than there are"),
}
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*?)\s*$")
VECTOR = re.compile(r"%[yz]mm(\d+)")
LEAST = 4  # multiply-adds of a loop that counts


def functions(program):
    """The kernels' functions as lists of (address, operation, operands)."""
    command = ["objdump", "--disassemble", "--no-show-raw-insn", program]
    code = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listing:
        for line in listing.stdout:
            if name := FUNCTION.match(line):
                if code:
                    yield code
                code = [] if "ocelli_kernels" in name[1] else None
            elif code is not None and (found := INSTRUCTION.match(line)):
                code.append((int(found[1], 16), found[2], found[3]))
    if code:
        yield code
    if listing.returncode:
        sys.exit(f"objdump cannot read {program}")


def innermost_loops(code):
    """From the target of a jump back to the jump, where no other such pair lies between."""
    place = {address: i for i, (address, _, _) in enumerate(code)}
    pairs = set()
    for end, (_, operation, operands) in enumerate(code):
        target = re.match(r"[0-9a-f]+\b", operands) if operation.startswith("j") else None
        start = place.get(int(target[0], 16)) if target else None
        if start is not None and start <= end:
            pairs.add((start, end))
    for start, end in sorted(pairs):
        inside = any((a, b) != (start, end) and start <= a and b <= end for a, b in pairs)
        if not inside:
            yield code[start : end + 1]


def multiply_adds(loop):
    """Addresses of multiply-adds on whole vectors, and how many of their results are stored to the stack."""
    made, sums, stored = set(), [], 0
    for address, operation, operands in loop:
        registers = VECTOR.findall(operands)
        if not registers:
            continue
        if operation.startswith("vmov") and re.search(r"\(%r[sb]p\)$", operands):
            stored += registers[0] in made
        elif re.match(r"vfn?m(add|sub)", operation):
            sums.append(address)
            made.add(registers[-1])
        else:
            made.discard(registers[-1])
    return sums, stored


def source(program, addresses):
    """The kernels' file and line that most of the addresses come from; vectors' own operations don't count."""
    command = ["addr2line", "--inlines", "--addresses", f"--exe={program}", *map(hex, addresses)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = []
    for one in re.split(r"^0x[0-9a-f]+$", output, flags=re.M):
        frames = re.findall(r"crates/kernels/src/(\S+?):(\d+)", one)
        lines.extend([frame for frame in frames if not frame[0].startswith("simd/")][:1])
    return max(sorted(set(lines)), key=lines.count) if lines else ("?", "0")


def main():
    if platform.machine() != "x86_64" or not all(map(shutil.which, ["objdump", "addr2line"])):
        print("this reads x86-64 code with objdump and addr2line (Debian, Ubuntu: apt-get install binutils)")
        return NOT_RUN
    if len(sys.argv) > 1:
        program = sys.argv[1]
    else:
        os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
        subprocess.run(["cargo", "build", "--release", "--locked", "--package", "ocelli-cli"], check=True)
        program = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "release/ocelli")
    loops, bad = {"AVX2": 0, "AVX-512": 0}, {}
    for code in functions(program):
        for loop in innermost_loops(code):
            sums, stored = multiply_adds(loop)
            if len(sums) < LEAST:
                continue
            wide = any("%zmm" in operands for _, _, operands in loop)
            isa = "AVX-512" if wide else "AVX2"
            loops[isa] += 1
            if 2 * stored >= len(sums):
                file, line = source(program, sums)
                found = f"{file}:{line}, {isa}: of {len(sums)} multiply-adds {stored} store their result"
                bad.setdefault(file, []).append(found)
    print(f"read {loops['AVX2']} innermost loops of multiply-adds for AVX2, {loops['AVX-512']} for AVX-512")
    failed = 0
    for file, found in sorted(bad.items()):
        most, reason = KNOWN.get(file, (0, ""))
        print(*found, sep="\n")
        if len(found) > most:
            failed = 1
            print(f"  {len(found)} such loops in {file}, at most {most} are known: keep the sums in registers")
        else:
            print(f"  known: {reason}")
    if min(loops.values()) < 20:
        print("That is too few to be all: this script no longer finds the kernels.")
        failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
