"""Decoders with a KV cache as 8- and 4-bit files: agreement with the float model, tokens per second, memory.

    .venv/bin/python benches/decoders.py FOLDER [--kind llama|qwen] [--size small|half|billion] [--torch PYTHON]

PYTHON (an interpreter with torch, transformers, onnxscript) makes the model with random weights once, as ONNX with open
extents and as .pt2. Each source is compiled for each target; the artefacts run in the runtimes beside the float model
in ONNX Runtime: several tokens on an empty cache and on a full one, then single tokens, which are timed. With --nncf,
PYTHON (with nncf, openvino and onnxruntime too) also compresses the ONNX file to 4 bits with NNCF and with ONNX Runtime's
own quantizer, whose files are timed in the same way. QCC names the binary, target/release/qcc otherwise. Linux only."""
import argparse, subprocess, sys, time
from pathlib import Path

import numpy as np
from process import ROOT, Run

sys.path.insert(0, str(Path(ROOT) / "tests/oracle"))
from printed import sqnr  # noqa: E402
from runtimes import TARGETS, LiteRt, OpenVino, Ort  # noqa: E402

RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}
PRECISIONS = {"float32": [], "w8a32": ["--w8a32"], "w4a32": ["--quantize", "w4a32"]}

MAKE = '''
import sys, torch
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, Qwen2Config

kind, size, stem = sys.argv[1:]
small = dict(hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4)
half = dict(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2)
billion = dict(
    hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4
)
words = {"small": 2000, "half": 151936 if kind == "qwen" else 32000, "billion": 32000}[size]
sizes = {"small": small, "half": half, "billion": billion}[size]
Config = {"llama": LlamaConfig, "qwen": Qwen2Config}[kind]
config = Config(**sizes, vocab_size=words, max_position_embeddings=2048, tie_word_embeddings=False)
torch.manual_seed(0)
layers, heads = config.num_hidden_layers, config.num_key_value_heads
width = config.hidden_size // config.num_attention_heads


class Step(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = AutoModelForCausalLM.from_config(config).eval()

    def forward(self, input_ids, attention_mask, position_ids, *past):
        cache = DynamicCache()
        for i in range(layers):
            cache.update(past[2 * i], past[2 * i + 1], i)
        found = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, past_key_values=cache, use_cache=True
        )
        return (found.logits, *(t for layer in found.past_key_values.layers for t in (layer.keys, layer.values)))


steps, known = 3, 5
past = [torch.randn(1, heads, known, width) for _ in range(2 * layers)]
ids = torch.randint(0, words, (1, steps))
inputs = (ids, torch.ones(1, steps + known, dtype=torch.int64), torch.arange(known, known + steps)[None], *past)
open = torch.export.Dim.AUTO
shapes = ({1: open}, {1: open}, {1: open}, tuple({2: open} for _ in past))
with torch.no_grad():
    program = torch.export.export(Step(), inputs, dynamic_shapes=shapes, strict=False)
torch.export.save(program, stem + ".pt2")
cached = [f"{kind}_{i}" for i in range(layers) for kind in ("key", "value")]
names = ["input_ids", "attention_mask", "position_ids"] + ["past_" + name for name in cached]
outputs = ["logits"] + ["present_" + name for name in cached]
torch.onnx.export(
    program, inputs, stem + ".onnx", dynamo=True, input_names=names, output_names=outputs, external_data=True
)
'''

PEERS = '''
import sys
import nncf, onnx, openvino
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

source, folder = sys.argv[1:]
model = openvino.Core().read_model(source)
mode = nncf.CompressWeightsMode.INT4_SYM
openvino.save_model(nncf.compress_weights(model, mode=mode, group_size=32, all_layers=True), folder + "/nncf.xml", False)
quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=32, is_symmetric=True)
quantizer.process()
quantizer.model.save_model_to_file(folder + "/ort.onnx", True)
'''


def sample(session, steps, known, random):
    """Random inputs: `steps` tokens after `known` ones."""
    fed = {}
    for i in session.inputs:
        if i.name == "input_ids":
            fed[i.name] = random.integers(0, 2000, (1, steps))
        elif i.name == "attention_mask":
            fed[i.name] = np.ones((1, steps + known), np.int64)
        elif i.name == "position_ids":
            fed[i.name] = np.arange(known, known + steps)[None]
        else:
            _, heads, _, width = i.shape
            fed[i.name] = random.standard_normal((1, heads, known, width), dtype=np.float32)
    return fed


def tokens_a_second(runtime, one):
    times = []
    for _ in range(12):
        start = time.perf_counter()
        runtime.run(one)
        times.append(time.perf_counter() - start)
    return 1 / min(times)


def measured(runtime, samples, exact, one):
    """The least SQNR of the logits on the samples, the agreement of their largest, and tokens per second."""
    least, right = float("inf"), []
    for fed, wanted in zip(samples, exact):
        found = runtime.run(fed)
        shapes = {a.shape for a in wanted}
        assert {a.shape for a in found} == shapes, f"shapes {shapes}, found {[a.shape for a in found]}"
        least = min(least, sqnr(wanted[0].astype(np.float64), found[0]))
        right += list((wanted[0].argmax(-1) == found[0].argmax(-1)).ravel())
    speed = f"{tokens_a_second(runtime, one):.1f}" if one else ""
    return f"{least:.1f} | {100 * np.mean(right):.0f} | {speed}"


def as_exported(fed):
    """The names that torch.export gives the inputs: those of the cache are numbered."""
    cache = [a for name, a in fed.items() if name.startswith("past_")]
    return {n: a for n, a in fed.items() if not n.startswith("past_")} | {f"past_{i}": a for i, a in enumerate(cache)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", default="llama", choices=["llama", "qwen"])
    parser.add_argument("--size", default="half", choices=["small", "half", "billion"])
    parser.add_argument("--torch", default=sys.executable)
    parser.add_argument("--nncf", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    stem = options.folder / f"{options.kind}_{options.size}"
    if not stem.with_suffix(".onnx").exists():
        command = [options.torch, "-c", MAKE, options.kind, options.size, str(stem)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    source = Ort(str(stem.with_suffix(".onnx")))
    random = np.random.default_rng(1)
    sizes = [(3, 5), (7, 0), (1, 40), (20, 12)]
    samples = [sample(source, steps, known, random) for steps, known in sizes]
    exact = [source.run(fed) for fed in samples]
    one = sample(source, 1, 64, random)
    weights = sum(f.stat().st_size for f in options.folder.glob(stem.name + ".onnx*")) / 1e6
    print(f"{stem.name}: {weights:.0f} MB; logits of {len(samples)} samples; float in ONNX Runtime "
          f"{tokens_a_second(source, one):.1f} tokens/s")
    print("| source | precision | target | SQNR dB | top-1 % | tokens/s | artefact MB | anonymous MB | wall s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for suffix in [".onnx", ".pt2"]:
        for precision, flags in PRECISIONS.items():
            for target in TARGETS:
                kept = options.folder / f"{stem.name}_{suffix[1:]}_{precision}"
                run = Run(1, stem.with_suffix(suffix), target, *flags, scratch=options.folder, keep=kept)
                file = next(kept.glob(f"*{TARGETS[target]}"))
                try:
                    runtime = RUNTIMES[target](str(file))
                    if suffix == ".pt2":
                        # Compiled for the extents of the example.
                        found = measured(runtime, [as_exported(samples[0])], exact, None)
                    else:
                        found = measured(runtime, samples, exact, one)
                except Exception as error:
                    found = f"{str(error).splitlines()[0][:90]} | |"
                print(f"| {suffix} | {precision} | {target} | {found} | {run.written:.0f} | {run.memory:.0f} | "
                      f"{run.seconds:.1f} |", flush=True)
    if options.nncf:
        subprocess.run([options.torch, "-c", PEERS, str(stem.with_suffix(".onnx")), str(options.folder)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name, runtime in [("nncf.xml", OpenVino), ("ort.onnx", Ort)]:
            found = measured(runtime(str(options.folder / name)), samples, exact, one)
            print(f"| {name} | int4, groups of 32 | | {found} | | | |", flush=True)


if __name__ == "__main__":
    main()
