from __future__ import annotations

import subprocess
import sys

from zoo.catalog import find
from zoo.catalog.read_timm import build_timm
from zoo.catalog.signatures import SKETCH_SIZE, as_paths, backbone_shapes, most_similar_structures, signature


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    return {k: tuple(t.shape) for k, t in build_timm(name).state_dict().items()}


def test_layers_that_depend_on_the_task_are_not_compared() -> None:
    shapes = {
        "conv1.weight": (64, 3, 7, 7),
        "conv1.bias": (64,),
        "bn1.num_batches_tracked": (),
        "fc.weight": (1000, 512),
        "fc.bias": (1000,),
        "fc2.weight": (5, 5),
    }
    rest = {"conv1.weight": (64, 0, 7, 7), "conv1.bias": (64,), "fc2.weight": (5, 5)}
    assert backbone_shapes(shapes, ("fc",), ("conv1",)) == rest
    assert backbone_shapes(shapes, (), ()) == {k: v for k, v in shapes.items() if not k.endswith("tracked")}
    assert (as_paths(None), as_paths("fc"), as_paths(("a", "b"))) == ((), ("fc",), ("a", "b"))


def test_a_signature_has_the_smallest_hashes() -> None:
    one = signature(shapes_of("resnet18"), find("resnet18"))
    assert one.tensors == 100  # 20 convolutions, 20 norms of 4 tensors, no head, no counters
    assert list(one.min_hashes) == sorted(one.min_hashes)
    assert len(one.min_hashes) == SKETCH_SIZE
    assert one.max_hash == one.min_hashes[-1]
    small = signature({"a.weight": (2, 2)}, find("resnet18"))
    assert (small.tensors, small.max_hash) == (1, 2**32)


def test_an_architecture_is_recognized_with_another_head_and_other_channels() -> None:
    shapes = shapes_of("resnet34") | {"fc.weight": (7, 512), "fc.bias": (7,), "conv1.weight": (64, 1, 7, 7)}
    best, second = most_similar_structures(shapes, 2)
    assert best.names == ("resnet34", "torchvision/resnet34")
    assert (best.exact, best.share) == (True, 1.0)
    assert not second.exact


def test_part_of_an_architecture_is_similar_to_it() -> None:
    shapes = {k: v for k, v in shapes_of("vit_tiny_patch16_224").items() if not k.startswith("blocks.11")}
    best = most_similar_structures(shapes, 3)
    assert any("vit_tiny_patch16_224" in one.names for one in best)
    assert not any(one.exact for one in best)
    assert most_similar_structures({"something.else": (1, 2, 3)}, 3) == []


def test_signatures_need_no_model_library() -> None:
    code = (
        "import sys; from zoo.catalog.signatures import most_similar_structures; "
        f"assert most_similar_structures({shapes_of('resnet18')!r}, 1)[0].exact; "
        "print({'torch', 'timm', 'torchvision', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
