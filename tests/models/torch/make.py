"""Writes the models of this folder, and beside them what PyTorch computes with them: in cases.json, and with inputs of
several sizes in open.json.

For developers: the models are part of the repository. Run with Python 3.12, torch 2.15.0 and torchvision 0.29.2:
    python tests/models/torch/make.py
"""

import json
import pathlib
import re

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from torch.ao.quantization.fx import _decomposed  # noqa: F401, registers quantized_decomposed

HERE = pathlib.Path(__file__).parent
CASES, OPEN = {}, {}
OWN = re.compile(r'File "[^"]*make\.py", line (\d+), in (\w+)')


class Of(nn.Module):
    """A function as a module, with the modules it uses."""

    def __init__(self, f, **parts):
        super().__init__()
        self.f = f
        for name, part in parts.items():
            if isinstance(part, torch.Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs):
        return self.f(self, *inputs)


def add(name, module, *inputs, dynamic=None, decompose=False):
    program = exported(name, module.eval(), inputs, dynamic, decompose)
    CASES[name] = case(program, inputs)


def add_open(name, module, runs, dynamic):
    """A model with open extents, exported with the first inputs and run with all."""
    program = exported(name, module.eval(), runs[0], dynamic, False)
    OPEN[name] = [case(program, inputs) for inputs in runs]


def case(program, inputs):
    with torch.no_grad():
        results = program.module()(*(i.clone() for i in inputs))
    results = torch.utils._pytree.tree_leaves(results)
    return {
        "inputs": [[list(i.shape), i.flatten().tolist()] for i in inputs],
        "outputs": [[list(r.shape), [float(v) for v in r.flatten()]] for r in results if isinstance(r, torch.Tensor)],
    }


def exported(name, module, inputs, dynamic, decompose):
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
            m.weight.data.uniform_(0.5, 1.5)
            m.bias.data.normal_(0, 0.1)
    program = torch.export.export(module, tuple(i.clone() for i in inputs), dynamic_shapes=dynamic)
    if decompose:
        program = program.run_decompositions()
    # Paths of the machine that this runs on are no business of the models.
    graphs = [m.graph for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    for node in (node for graph in graphs for node in graph.nodes):
        own = OWN.findall(node.meta.get("stack_trace") or "")
        node.meta["stack_trace"] = "File \"make.py\", line {}, in {}".format(*own[-1]) if own else None
    program._example_inputs = None
    torch.export.save(program, HERE / f"{name}.pt2")
    return program


def vision():
    x = torch.randn(1, 4, 9, 7)
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True),
        nn.Conv2d(8, 8, 3, padding="same", groups=8), nn.SiLU(inplace=True),
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=(1, 0)), nn.Hardswish(inplace=True),
        nn.AdaptiveAvgPool2d((3, 1)), nn.Flatten(), nn.Dropout(), nn.Linear(18, 5), nn.LogSoftmax(1))
    add("vision", net, x)
    add("vision_decomposed", net, x, decompose=True)
    batch = torch.export.Dim("batch", max=64)
    add("dynamic", nn.Sequential(nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(105, 2)), torch.randn(2, 4, 9, 7),
        dynamic=({0: batch},))
    pools = lambda m, x: (
        F.max_pool2d(x, 3, 2, 1, ceil_mode=True), F.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 2, ceil_mode=True),
        F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), F.adaptive_avg_pool2d(x, (4, 3)),
        F.adaptive_max_pool2d(x, (2, 7)), F.avg_pool2d(x, 2, divisor_override=3), F.max_pool1d(x[0], 2))
    add("pools", Of(pools), x)
    sizes = lambda m, x: (
        F.interpolate(x, scale_factor=2), F.interpolate(x, size=(5, 11)),
        F.interpolate(x, scale_factor=1.7, mode="bilinear"), F.interpolate(x, size=(4, 12), mode="bilinear"),
        F.interpolate(x, size=(4, 12), mode="bilinear", align_corners=True),
        F.interpolate(x, size=(12, 9), mode="bicubic"), F.interpolate(x, size=(5, 11), mode="nearest-exact"),
        F.interpolate(x[0], scale_factor=3, mode="linear"))
    add("resizes", Of(sizes), x)
    pixels = lambda m, x: (
        F.pixel_shuffle(x, 2), F.pixel_unshuffle(x[..., :6, :6], 3), F.channel_shuffle(x, 2), F.pad(x, (1, 2, 0, -1)),
        F.pad(x, (1, 2, 3, 1), mode="reflect"), F.pad(x, (2, 1, 1, 2), mode="replicate"),
        F.pad(x, (1, 1), value=-3.5), torch.roll(x, (2, -1), (2, 3)), torch.roll(x, 5), x.flip(1, 3))
    add("pixels", Of(pixels), x)
    other = nn.Sequential(nn.Conv1d(3, 4, 3, dilation=2), nn.ConvTranspose1d(4, 2, 4, stride=2, groups=2))
    add("lines", other, torch.randn(2, 3, 12))


def language():
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, norm_first=True, activation="gelu")
    add("transformer", Of(lambda m, x: m.layer(x + m.position), layer=layer, position=torch.randn(1, 6, 16)),
        torch.randn(2, 6, 16))
    embedded = Of(lambda m, i: m.out(m.norm(m.table(i))).argmax(-1), table=nn.Embedding(11, 8), norm=nn.RMSNorm(8),
                  out=nn.Linear(8, 11, bias=False))
    add("embedding", embedded, torch.randint(0, 11, (2, 5)))
    q = torch.randn(2, 4, 5, 8)
    attention = lambda m, q, k, v: (
        F.scaled_dot_product_attention(q, k[:, :, :5], v[:, :, :5], is_causal=True),
        F.scaled_dot_product_attention(q, k, v, attn_mask=m.mask, scale=0.3),
        F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], attn_mask=m.bias, enable_gqa=True))
    add("attention", Of(attention, mask=torch.rand(5, 7) > 0.3, bias=torch.randn(5, 7)),
        q, torch.randn(2, 4, 7, 8), torch.randn(2, 4, 7, 8))
    x = torch.randn(6, 2, 5)
    add("lstm", Of(lambda m, x: m.rnn(x), rnn=nn.LSTM(5, 4, 2, bidirectional=True)), x)
    add("gru", Of(lambda m, x: m.rnn(x), rnn=nn.GRU(5, 4, batch_first=True)), x)
    add("rnn", Of(lambda m, x: m.rnn(x[:, 0]), rnn=nn.RNN(5, 3, bias=False)), x)
    products = lambda m, a, b, v: (
        torch.einsum("bij,bjk->bik", a, b), torch.einsum("bij,bjk->kb", a, b), torch.einsum("bij,j->bi", a, v),
        torch.einsum("i,j", v, v), a @ v, torch.addmm(m.c, a[0], b[0], beta=0.5, alpha=2),
        torch.baddbmm(a[:, :, :2], a, b[:, :, :2]), F.linear(v, b[0].t()), torch.dot(v, v), torch.outer(v, v))
    add("products", Of(products, c=torch.randn(3, 5)), torch.randn(2, 3, 4), torch.randn(2, 4, 5), torch.randn(4))


def elements():
    x, y = torch.randn(2, 3, 4), torch.randn(3, 1)
    functions = [
        torch.abs, torch.ceil, torch.cos, torch.erf, torch.exp, torch.expm1, torch.floor, torch.neg, torch.round,
        torch.sigmoid, torch.sign, torch.sin, torch.tanh, torch.trunc, torch.square, torch.atan, torch.exp2,
        F.celu, F.elu, F.gelu, F.hardsigmoid, F.hardswish, F.hardtanh, F.leaky_relu, F.logsigmoid, F.mish, F.relu6,
        F.selu, F.silu, F.softplus, F.softsign, lambda v: F.gelu(v, approximate="tanh"), lambda v: F.threshold(v, 0.1, 2),
        lambda v: F.softplus(v, beta=2), lambda v: v.clamp(-0.5), lambda v: v.clamp(max=0.5), lambda v: v.clamp(-1, 0.5),
        lambda v: v ** 2, lambda v: v ** 3, lambda v: v.abs() ** 0.5, lambda v: v.abs() ** 1.5, lambda v: 2 ** v]
    add("functions", Of(lambda m, x: [f(x) for f in functions]), x)
    positive = [torch.log, torch.log10, torch.log1p, torch.log2, torch.rsqrt, torch.sqrt, torch.reciprocal]
    add("positive_functions", Of(lambda m, x: [f(x) for f in positive]), x.abs() + 0.1)
    pairs = lambda m, x, y, i: (
        x + y, x - 2 * y, torch.add(x, y, alpha=0.5), 3 - x, x * y, x / y, 1 / x, torch.div(x, y, rounding_mode="floor"),
        torch.div(x, y, rounding_mode="trunc"), x // 0.7, x % 0.7, torch.fmod(x, 0.7), torch.maximum(x, y),
        torch.minimum(x, y), torch.atan2(x, y), x > y, x <= 0, x == x, torch.where(x > 0, x, y),
        torch.where(x > 0, 1.0, 0.0), x.masked_fill(x > 0, -1), torch.lerp(x, y, 0.3), torch.addcmul(x, y, y, value=2),
        i + 1, i / 2, i * 0.5, i // 2, i % 3, i + x, -i, i > 2, (i > 2) & (i < 5), ~(i > 2), (i > 1) ^ (i > 3),
        i.float(), x.int(), x > 0.0, (x > 0).float() + 1, (i > 2) + i, x.to(torch.float64) * 2, torch.isnan(x / 0 * 0),
        torch.logical_not(i), x.type_as(i), i.clamp(1, 3), torch.nan_to_num(x / 0))
    add("pairs", Of(pairs), x, y, torch.randint(0, 6, (3, 4)))
    others = lambda m, x: (
        torch.sinh(x), torch.cosh(x), torch.erfc(x), torch.frac(x), F.glu(x), F.hardshrink(x), F.softshrink(x, 0.2),
        torch.isfinite(1 / x.relu()), torch.greater(x, 0), torch.negative(x), torch.hstack([x, x]), torch.vstack([x, x]),
        torch.vstack([x[0, 0], x[1, 0]]), x.mT, *torch.tensor_split(x, 3, 2), *torch.tensor_split(x, [1, -1], 2),
        *torch.unsafe_chunk(x, 2, 1), x[:1].broadcast_to(3, 3, 4), *torch.aminmax(x), torch.as_strided(x, (2, 3), (5, 2), 1))
    add("others", Of(others), x)
    norms = lambda m, x: (
        m.group(x), m.instance(x), m.layer(x), m.plain(x), F.normalize(x, dim=1), F.softmax(x, 2), F.log_softmax(x, -1),
        F.cosine_similarity(x, x.flip(2), dim=2), m.slope(x))
    add("norms", Of(norms, group=nn.GroupNorm(2, 6), instance=nn.InstanceNorm1d(6, affine=True),
                    layer=nn.LayerNorm((6, 5), bias=False), plain=nn.LayerNorm(5, elementwise_affine=False),
                    slope=nn.PReLU(6)), torch.randn(2, 6, 5))
    reductions = lambda m, x: (
        x.mean(), x.mean(-1), x.mean((0, 2), keepdim=True), x.sum(1), x.sum(), x.amax((1, 2)), x.amin(0), x.max(1),
        x.min(2, keepdim=True), x.max(), x.argmax(), x.argmin(2), x.prod(1), x.var(1), x.std(), x.var(2, correction=0),
        torch.var_mean(x, 1), x.norm(), x.norm(p=1, dim=1), torch.linalg.vector_norm(x, float("inf"), 2),
        torch.logsumexp(x, (1, 2)), (x > 0).any(), (x > 0).all(1), (x > 0).sum(), x.cumsum(1), (x > 0).cumsum(0))
    add("reductions", Of(reductions), x)


def parts():
    x = torch.randn(4, 6, 5)
    def taken(m, x, i):
        a, b = x.chunk(2, 1)
        c, d, e = x.split([1, 2, 3], 1)
        f = x.split(4, 1)
        return (a + b, c, d, e, *f, x[1], x[:, -1], x[..., 1:-1], x[::2, 1::3], *x[:, :2].unbind(1), x.narrow(2, 1, 3),
                x[i], x[:, i], x[i, :, i], x[m.rows, m.columns], x[m.mask], x.index_select(1, i), x.gather(0, m.places),
                torch.stack([a, b], -1), torch.cat([a, x], 1), x.repeat(2, 1, 1), torch.tile(x, (2,)),
                x.repeat_interleave(2, 1), x.unfold(1, 4, 2), x.tril(1), x.triu(), x.movedim(0, 2), x.swapaxes(0, 1),
                x.flatten(1), x.unflatten(1, (2, -1)), x[:1].squeeze(0), x.unsqueeze(2), x[:1].expand(3, -1, -1),
                x.topk(2, 1), x.sort(2, descending=True), x.argsort(1), x.scatter(1, m.places, 1.5),
                torch.slice_scatter(x, a, 1, 3), torch.select_scatter(x, x[0], 0, 2), F.one_hot(i, 4),
                torch.bucketize(x, m.borders), torch.take_along_dim(x, m.places, 0))
    add("parts", Of(taken, rows=torch.tensor([0, 3]), columns=torch.tensor([[1], [5]]), mask=torch.rand(4, 6) > 0.5,
                    places=torch.tensor([[[0, 1, 2, 3, 0]] * 6] * 4), borders=torch.tensor([-0.5, 0.0, 0.7])),
        x, torch.tensor([2, 0, 3]))
    def made(m, x):
        n = x.shape[0]
        grid = torch.meshgrid(torch.arange(3), torch.arange(n), indexing="ij")
        return (*grid, torch.linspace(0, 1, 5) + x[0, 0], x.new_zeros(2, 2), torch.full((2,), 7), torch.eye(3),
                torch.ones_like(x), torch.arange(1, 9, 2), torch.zeros(n, dtype=torch.int32), m.mask.nonzero())
    add("made", Of(made, mask=torch.tensor([[True, False], [True, True]])), x)
    def in_place(m, x):
        y = x * 2
        z = y.view(4, 30)
        y[:, 1] = 0
        y[1:3, :, -1] += 5
        z.mul_(0.5)
        a, b = y.chunk(2, 1)
        b.relu_()
        t = y.transpose(0, 2)
        t[0].fill_(3)
        w = torch.zeros(4, 6)
        w[0] = 1
        w[m.rows, m.columns] = 2.0
        u = x.clone()
        u[u > 1] = 1
        return y, z, a, b, t, w, u, x
    add("in_place", Of(in_place, rows=torch.tensor([1, 2]), columns=torch.tensor([0, 4])), x)
    add("in_place_decomposed", Of(in_place, rows=torch.tensor([1, 2]), columns=torch.tensor([0, 4])), x, decompose=True)


def programs():
    x = torch.randn(2, 3)
    def wrapped(m, x):
        with torch.no_grad():
            y = m.linear(x)
        return torch.cond(torch.tensor(True), lambda v: v.sin(), lambda v: v.cos(), (y,)), {"none": None, "y": y}
    add("wrapped", Of(wrapped, linear=nn.Linear(3, 3)), x)
    batch, length = torch.export.Dim("batch", min=2, max=8), torch.export.Dim("length", min=4, max=100)
    def open_extents(m, x):
        n, c, l = x.shape
        return x.reshape(n * c, l).mean(0) * (l // 2) + max(n, 3), x[:, :, : l - 1], torch.arange(l) + n
    add("open_extents", Of(open_extents), torch.randn(3, 2, 10), dynamic=(({0: batch, 2: length},),))
    def counted(m, x):
        m.calls.add_(1)
        return x * 2
    add("counted", Of(counted, calls=torch.zeros(1)), x)
    def stateful(m, x):
        m.total.add_(x)
        return m.total * 2
    add("stateful", Of(stateful, total=torch.zeros(2, 3)), x)
    add("stateful_decomposed", Of(stateful, total=torch.zeros(2, 3)), x, decompose=True)
    add("sampled", Of(lambda m, x: x + torch.rand_like(x)), x)
    q = torch.ops.quantized_decomposed
    def quantized(m, x):
        x = q.dequantize_per_tensor(q.quantize_per_tensor(x, 0.05, 3, -128, 127, torch.int8), 0.05, 3, -128, 127, torch.int8)
        w = q.dequantize_per_channel(m.w, m.scales, m.zeros, 0, -127, 127, torch.int8)
        y = F.linear(x, w, m.bias)
        return q.dequantize_per_tensor(q.quantize_per_tensor(y, 0.1, 0, -128, 127, torch.int8), 0.1, 0, -128, 127, torch.int8)
    add("quantized", Of(quantized, w=torch.randint(-127, 128, (4, 3), dtype=torch.int8), scales=torch.rand(4) / 50 + 0.01,
                        zeros=torch.zeros(4, dtype=torch.int64), bias=torch.randn(4)), x)
    tied = nn.Linear(3, 3)
    strided = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    add("tied", Of(lambda m, x: (m.b(m.a(x)), m.conv(m.image + x[0, 0]), x.to(torch.float16) * 2), a=tied, b=tied,
                   conv=strided, image=torch.randn(1, 3, 5, 4)[..., 1:]), x)


def positions():
    x = torch.randn(1, 2, 5, 4)
    def warped(m, x, theta):
        grid = F.affine_grid(theta, (1, 2, 5, 6), align_corners=True)
        shift = 3 * torch.tanh(m.shift(x)).permute(0, 2, 3, 1)
        deep = torch.cat([shift, shift[..., :1]], -1)[:, None, :4]
        return (F.grid_sample(x, grid, align_corners=True), F.affine_grid(theta, (1, 2, 2, 3), align_corners=False),
                *[F.grid_sample(x, shift, mode, padding, corners) for mode in ("bilinear", "nearest", "bicubic")
                  for padding in ("zeros", "border", "reflection") for corners in (False, True)
                  if (mode, padding, corners) != ("nearest", "reflection", False)],
                F.grid_sample(x[:, None], deep, align_corners=False))
    y = torch.randn(4, 6, 5)
    def scattered(m, x, i):
        z, some = x.clone(), x[:, :3]
        z[:, i] = 1.5
        z[m.rows, :, m.columns] += 2
        z.index_put_((m.rows, m.rows), some[:2, :1, 0], accumulate=True)
        z[:, :, 1:3].index_put_((m.rows,), some[:2, :1, :2], accumulate=True)
        return (z, x.scatter_add(0, m.places, x), x.scatter_add(1, i.view(1, 3, 1).expand(4, 3, 5), some),
                x.scatter_add(1, m.places[:, :3, :2] + i[2], x), x.index_add(1, i, some, alpha=2), x.index_copy(1, i, some),
                x.scatter(0, m.places[:2], x, reduce="multiply"), x.scatter(2, m.places, 0.5, reduce="add"),
                x.scatter(1, i.view(1, 3, 1), -1.0), *[f(reduce, own) for own in (True, False) for f, reduces in (
                    (lambda r, o: x.scatter_reduce(0, m.places, x.flip(0), r, include_self=o), ("sum", "mean", "amax")),
                    (lambda r, o: x.scatter_reduce(1, i.view(1, 3, 1).expand(4, 3, 5), some, r, include_self=o), ("amin", "prod")),
                    (lambda r, o: x.index_reduce(1, i, some, r, include_self=o), ("mean", "amax"))) for reduce in reduces],
                i.new_zeros(6).scatter_add(0, i, i + 1))
    add("scattered", Of(scattered, rows=torch.tensor([3, 0]), columns=torch.tensor([1, 4]),
                        places=torch.tensor([[[0, 1, 2, 3, 0]] * 6] * 4)), y, torch.tensor([5, 0, 3]))
    add("warped", Of(warped, shift=nn.Conv2d(2, 2, 1)), x, torch.tensor([[[0.8, -0.3, 0.1], [0.2, 0.9, -0.4]]]))


def signals():
    x = torch.randn(2, 2, 5, 6)
    def columns(m, x):
        y = F.unfold(x, (2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2))
        return (y, F.unfold(x[0], 2, stride=2), F.fold(y, (5, 6), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2)),
                F.fold(y[0], (5, 6), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2)))
    add("columns", Of(columns), x)
    def stepped(m, x):
        y = x.clone()
        y[:, ::2] = 0
        y[..., 1::3] *= 2
        z = y[0, :, 1:5:2]
        z += x[0, :, :2]
        y[:, :, ::3].relu_()
        return y, z, torch.slice_scatter(x, x[:, :, :2], 2, 0, 4, 2)
    add("stepped", Of(stepped), x)
    s = torch.randn(2, 40)
    def spectra(m, s):
        a = torch.stft(s, 16, 5, 12, m.window, return_complex=True)
        b = torch.stft(s[0], 9, 4, center=False, onesided=False, normalized=True, return_complex=True)
        c = torch.fft.rfft(s.unfold(-1, 20, 10), norm="ortho")
        d = torch.fft.rfft(s, 3, 0)
        return ((a.abs() ** 2).transpose(1, 2) @ m.bands, a.transpose(1, 2).real, a[:, 1:4].imag, torch.view_as_real(b),
                torch.stft(s, 16, 8, return_complex=False), c.abs(), c[..., 0].real, d.abs(), torch.fft.fft(s[:, :15]).imag,
                c[..., 1:4].angle(), *[part.abs() for part in torch.fft.rfft(s, 24).split(8, 1)])
    spectra = Of(spectra, window=torch.hann_window(12), bands=torch.rand(9, 4))
    add("spectra", spectra, s)
    add("spectra_decomposed", spectra, s, decompose=True)
    def overwritten(m, s):
        z = torch.fft.rfft(s)
        z.real.mul_(2)
        return z.abs()
    add("overwritten", Of(overwritten), s)
    add("inverted", Of(lambda m, s: torch.fft.irfft(torch.fft.rfft(s) * 2)), s)


def complexes():
    x, s = torch.randn(2, 3, 4, 6), torch.randn(2, 50)
    def transforms(m, x, s):
        z = torch.fft.fft2(x, norm="ortho")
        half = torch.fft.rfftn(x, dim=(1, 3))
        window = torch.stft(s, 16, 5, 12, m.window, return_complex=True)
        return (torch.fft.ifft2(z * m.filter, norm="ortho").real, torch.fft.irfftn(half * half, dim=(1, 3), norm="forward"),
                torch.fft.fftn(x).imag, torch.fft.ifft(z, 5, 1).real, torch.fft.irfft(torch.fft.rfft(s, 20), 27),
                torch.fft.irfft2(torch.fft.rfft2(x, s=(4, 5)), s=(4, 5)), torch.istft(window, 16, 5, 12, m.window),
                torch.istft(window[0, :, :6], 16, 5, 12, m.window, normalized=True, length=20),
                torch.fft.fft(torch.cat([z, z.conj()], 2)).abs())
    parts = {"window": torch.hann_window(12), "filter": torch.randn(4, 6, dtype=torch.complex64)}
    add("inverses", Of(transforms, **parts), x, s)
    add("inverses_decomposed", Of(lambda m, x: (torch.fft.irfft2(torch.fft.rfft2(x)), torch.fft.ifft(torch.fft.fft(x)).real)), x,
        decompose=True)
    def turned(m, x):
        q = torch.view_as_complex(x.reshape(2, 3, 4, 3, 2))
        y, size = q * m.turns, q.abs()
        z = torch.polar(size, size * 3) - torch.complex(size, -size) / 2
        w = torch.einsum("abcd,ed->abce", q, m.mixed)[..., :3] + (1.5 - (q @ m.mixed.transpose(0, 1))[..., 2:]) / (z + 2)
        sums = torch.stack([y, q.exp()], 1).sum(1) + q.mean(-1, keepdim=True) * 0.5
        return (torch.view_as_real(y).flatten(3), z.real, w.imag, w.real, sums.abs(), (x[..., :3] * z).imag, (3 - z).angle(),
                torch.view_as_real(y * y))
    parts = {"turns": torch.polar(torch.ones(4, 3), torch.rand(4, 3) * 6), "mixed": torch.randn(5, 3, dtype=torch.complex64)}
    add("turned", Of(turned, **parts), x)


def windows():
    x = torch.randn(2, 3, 6, 5)
    def partial(m, x):
        y = F.dropout(x.transpose(1, 2).flatten(1), 0.5, False, inplace=True)
        return (F.avg_pool2d(x, 9, ceil_mode=True), F.avg_pool2d(x, 8, 4, 1, ceil_mode=True), y.detach_() + 1,
                F.max_pool2d(x, (7, 2), ceil_mode=True))
    add("partial", Of(partial), x)
    def masked(m, x):
        rows = x[x[:, 0, 0, 0] > 9]
        return x[x > 0], x[:, x[0, :, 1, 1] > 0], rows, x.view(-1)[m.places > 0]
    add("masked", Of(masked, places=torch.randn(180)), x)
    batch = torch.export.Dim("batch", min=1, max=16)
    def columns(m, x):
        return F.unfold(x, (3, 2), padding=(1, 0), stride=(2, 1), dilation=(1, 2)), m.alibi.repeat(x.shape[0], 1, x.shape[3])
    runs = [(torch.randn(b, 3, 6, w),) for b, w in ((2, 5), (1, 4), (3, 8))]
    add_open("open_columns", Of(columns, alibi=torch.randn(1, 2, 1)), runs, (({0: batch, 3: torch.export.Dim.AUTO},),))


def numbers():
    x, i = torch.rand(3, 4, 4) * 1.8 - 0.9, torch.randint(-20, 20, (2, 5))
    angles = lambda m, x, i: (
        torch.asin(x), torch.acos(x), torch.asinh(5 * x), torch.acosh(x.abs() + 1), torch.atanh(x), torch.atan(9 * x),
        i & 6, i | 1, i ^ -3, ~i, torch.einsum("...ii->...i", x), torch.einsum("a...c,...c->...a", x, x[0]),
        torch.einsum("iij", x[:, :3]), torch.einsum("aij,aik,ajk->a", x, x, x))
    add("angles", Of(angles), x, i)


def cells():
    x = torch.randn(2, 3, 4)
    def steps(m, x):
        h, c = m.lstm(x[:, 0], (x[:, 1, :3], x[:, 2, :3]))
        return h, c, m.gru(x[:, 0], h), m.tanh(x[:, 0], h), m.relu(x[:, 1], c)
    add("cells", Of(steps, lstm=nn.LSTMCell(4, 3), gru=nn.GRUCell(4, 3), tanh=nn.RNNCell(4, 3, bias=False),
                    relu=nn.RNNCell(4, 3, nonlinearity="relu")), x)
    def weights(m, x):
        w = F.batch_norm(m.w.reshape(1, 3, -1), None, None, m.g, training=True, momentum=0.0, eps=1e-6)
        return m.narrow(x), m.whole(x), F.conv1d(x, w.reshape(3, 3, 2)), m.batch(x)
    add("weights", Of(weights, narrow=nn.utils.weight_norm(nn.Conv1d(3, 2, 2), dim=2),
                      whole=nn.utils.weight_norm(nn.Linear(4, 3), dim=None), w=torch.randn(3, 3, 2), g=torch.rand(3),
                      batch=nn.BatchNorm1d(3, track_running_stats=False)), x)
    add("differences", Of(lambda m, x: (
        x.diff(), x.diff(n=2, dim=1), x.diff(dim=0, prepend=x[:1] * 2, append=x[:1]), (x > 0).diff(), x.diagonal(),
        x.diagonal(1, 1, 2), x.diagonal(-2, 2, -2), x.transpose(1, 2).reshape_as(x))), x)


def open_sizes():
    Dim = torch.export.Dim
    batch, length = Dim("batch", min=1, max=64), Dim("length", min=2, max=48)
    sizes = lambda make, *shapes: [tuple(make(*shape) for shape in run) for run in shapes]
    tokens = lambda *shape: torch.randint(0, 20, shape)

    def text(m, ids):
        b, n = ids.shape
        x = m.words(ids) + m.places[:n] + m.steps(torch.arange(n))
        q, k, v = (t.view(b, n, 2, 4).transpose(1, 2) for t in m.qkv(x).chunk(3, -1))
        mask = torch.triu(torch.full((n, n), float("-inf")), 1)
        a = torch.softmax(q @ k.transpose(-1, -2) / n**0.5 + mask, -1) @ v
        a = a + F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return a.transpose(1, 2).reshape(b, n, 8), x[:, -1]
    parts = {"words": nn.Embedding(20, 8), "steps": nn.Embedding(48, 8), "qkv": nn.Linear(8, 24)}
    add_open("open_text", Of(text, places=torch.randn(48, 8), **parts),
             sizes(tokens, [(2, 6)], [(1, 3)], [(3, 11)]), (({0: batch, 1: length},),))

    def cache(m, ids, keys):
        b, n = ids.shape
        past = keys.shape[1]
        k = torch.cat([keys, m.words(ids) + m.steps(torch.arange(past, past + n))], 1)
        q, places = k[:, past:], torch.arange(past + n)
        seen = places[None] <= past + torch.arange(n)[:, None]
        return F.scaled_dot_product_attention(q, k, k, attn_mask=seen), k
    runs = [(tokens(b, n), torch.randn(b, p, 8)) for b, n, p in ((2, 3, 5), (1, 1, 9), (3, 4, 2))]
    add_open("open_cache", Of(cache, words=nn.Embedding(20, 8), steps=nn.Embedding(64, 8)), runs,
             (({0: batch, 1: Dim("new", min=1, max=16)}, {0: batch, 1: Dim("past", min=1, max=48)}),))

    def image(m, x):
        a = F.silu(m.a(x))
        b = F.relu(m.b(a))
        y = torch.cat([F.interpolate(b, size=a.shape[-2:]), a], 1)
        n, c, h, w = y.shape
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack([columns, rows], -1).float().view(1, h, w, 2)
        boxes = y[:, :2].permute(0, 2, 3, 1).sigmoid() + grid
        blocks = y.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        moved = torch.roll(y, (1, -1), (2, 3))[:, :, ::2, 1::2]
        return boxes.reshape(n, -1, 2), blocks.mean(1).view(n, -1), moved, m.pool(y)
    parts = {"a": nn.Conv2d(3, 4, 3, 2, 1), "b": nn.Conv2d(4, 2, 3, 2, 1)}
    parts["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    runs = sizes(torch.randn, [(2, 3, 8, 12)], [(1, 3, 16, 8)], [(3, 3, 12, 20)])
    height, width = 4 * Dim("h", min=2, max=50), 4 * Dim("w", min=2, max=50)
    add_open("open_image", Of(image, **parts), runs, (({0: batch, 2: height, 3: width},),))

    def signal(m, x):
        n = x.shape[1]
        padded = F.pad(x, (0, (4 - n % 4) % 4))
        frames = padded.unfold(1, 8, 4) * m.window
        x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
        return frames.mean(2), x.cumsum(1) / torch.arange(1, n + 1), m.conv(x[:, None])[:, :, : n // 2]
    runs = sizes(torch.randn, [(2, 21)], [(1, 16)], [(3, 39)])
    add_open("open_signal", Of(signal, window=torch.rand(8), conv=nn.Conv1d(1, 2, 3, 1, 1)), runs,
             (({0: batch, 1: torch.export.Dim.AUTO},),))

    def boxes(m, x, corners, scores):
        kept = corners[torchvision.ops.nms(corners, scores, 0.4)]
        rows = torch.cat([torch.zeros(kept.shape[0], 1), kept], 1)
        return torchvision.ops.roi_align(m.conv(x), rows, (3, 2), 0.5, 2, True).flatten(1), kept
    def found(b, n):
        low = torch.rand(n, 2) * 8
        return torch.randn(b, 3, 12, 10), torch.cat([low, low + 2 + torch.rand(n, 2) * 6], 1), torch.rand(n)
    count = Dim("count", min=2, max=50)
    add_open("open_boxes", Of(boxes, conv=nn.Conv2d(3, 4, 3, 1, 1)), [found(*r) for r in ((2, 7), (1, 12), (3, 3))],
             (({0: batch}, {0: count}, {0: count}),))

    # An operator that takes known extents only.
    add("open_sorted", Of(lambda m, x: x.sort(1)[0] + x.shape[1]), torch.randn(2, 7), dynamic=(({1: length},),))
    add("open_gated", Of(lambda m, x: F.glu(x, 1)), torch.randn(2, 6), dynamic=(({1: 2 * length},),))

    def states(m, x):
        x = torch.cat([m.first.expand(x.shape[0], -1, -1), x], 1)
        y, (h, c) = m.lstm(x)
        z, last = m.gru(y)
        return z[:, 0], h, c, last.transpose(0, 1).flatten(1)
    parts = {"lstm": nn.LSTM(3, 4, batch_first=True, bidirectional=True), "gru": nn.GRU(8, 4, batch_first=True)}
    add_open("open_states", Of(states, first=torch.randn(1, 1, 3), **parts),
             sizes(torch.randn, [(2, 5, 3)], [(1, 5, 3)], [(4, 5, 3)]), (({0: batch},),))


def contractions():
    def planes(m, x):
        spectrum = torch.fft.fft2(x)
        return torch.view_as_real(spectrum), torch.fft.ifft2(spectrum).real, torch.fft.irfft2(torch.fft.rfft2(x))
    add("planes", Of(planes), torch.randn(2, 2, 4, 6))

    def flattened(m, x):
        # Whether this is a view depends on the layout of the convolution's result.
        y = m.conv(x).flatten(2).transpose(1, 2)
        y += m.places
        return y
    add("flattened", Of(flattened, conv=nn.Conv2d(3, 4, 3, 2, 1), places=torch.randn(9, 4)), torch.randn(2, 3, 6, 6))

    def contracted(m, x, whole):
        places = torch.einsum("i,d->id", torch.arange(4), m.steps)
        counts = whole @ whole.transpose(0, 1)
        errors = F.mse_loss(x[0], x[1]), F.l1_loss(x[0], x[1], reduction="none")
        return torch.tensordot(x, places, dims=([1, 2], [0, 1])), counts, *errors
    whole = torch.arange(6).reshape(2, 3)
    add("contracted", Of(contracted, steps=torch.rand(5)), torch.randn(3, 4, 5), whole)


def open_loops():
    higher = torch._higher_order_ops
    Dim = torch.export.Dim
    batch = Dim("batch", min=1, max=64)

    @torch.autocast("cuda", enabled=False)
    def pooled(x, height):
        rows = height // 2
        return x.reshape(x.shape[0], 3, rows, 2, -1).mean(3), rows

    def padded(m, x):
        h, w = x.shape[-2:]
        x = F.pad(x, (0, (4 - w % 4) % 4, 0, (4 - h % 4) % 4), "reflect")
        x = F.pad(x, (1, 2 - w % 2, 0, 0), "replicate")
        y, rows = pooled(x, x.shape[2])
        return y * rows
    runs = [(torch.randn(*shape),) for shape in ((2, 3, 6, 9), (1, 3, 7, 8), (2, 3, 12, 10))]
    add_open("open_padded", Of(padded), runs, (({0: batch, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},),))

    def repeated(m, x):
        step, x = torch.tensor(0), x * 1
        goes_on = lambda step, x: (x.abs().max() > 1) & (step < 20)
        halved = lambda step, x: (step + 1, x * m.share)
        step, x = higher.while_loop(goes_on, halved, (step, x))
        return x, step
    runs = [(scale * torch.randn(*shape),) for scale, shape in ((9, (2, 5)), (0.01, (1, 5)), (50, (3, 5)))]
    add_open("open_repeated", Of(repeated, share=torch.tensor(0.6)), runs, (({0: batch},),))

    def masked(m, x, lengths):
        most = lengths.max().item()
        torch._check(most >= 1)
        inside = (torch.arange(most)[None] < lengths[:, None]).float()
        share = x.abs().amax().item()
        return inside.cumsum(1) * x.mean(1, keepdim=True), x * share
    runs = [(torch.randn(*shape), torch.tensor(lengths)) for shape, lengths in
            (((2, 5), [3, 4]), ((1, 3), [7]), ((3, 4), [1, 5, 2]))]
    add_open("open_masked", Of(masked), runs, (({0: batch, 1: torch.export.Dim.AUTO}, {0: batch}),))

    def scanned(m, x):
        last, rows = higher.scan(lambda state, row: (state * 0.5 + row, state - row), torch.zeros(3), x)
        return last, rows
    runs = [(torch.randn(*shape),) for shape in ((5, 3), (2, 3), (9, 3))]
    add_open("open_scanned", Of(scanned), runs, (({0: Dim("steps", min=2, max=30)},),))


if __name__ == "__main__":
    for group in (vision, language, elements, parts, programs, positions, signals, complexes, windows, numbers, cells, open_sizes,
                  contractions, open_loops):
        torch.manual_seed(5)
        group()
    (HERE / "cases.json").write_text(json.dumps(CASES))
    (HERE / "open.json").write_text(json.dumps(OPEN))
