"""Write a model as one ONNX file, its sample rate, grades and the rest of its preprocessing in the metadata.

examples:
  python scripts/export_onnx.py --model model --onnx model.onnx
  python scripts/export_onnx.py --model gs://school/model --onnx gs://school/exports/model.onnx

The network takes segments whose level is normalised, once per recording, and gives probabilities (worst grade first)
and embeddings. It needs a package that the jobs do not: pip install onnx
"""

from samplecnn.errors import UserError
from samplecnn.flags import Flags, run
from samplecnn.store import open_store


def main() -> int:
    args = Flags(__doc__).places("model", "onnx").parse()
    folder, _, name = args.onnx.rpartition("/")
    if not name:
        raise UserError(f"--onnx {args.onnx}: give a file, such as model.onnx")
    store = open_store(folder or ("/" if args.onnx.startswith("/") else "."))
    try:
        from samplecnn.export import onnx_bytes
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UserError("the package onnx is missing: pip install onnx") from error
    from samplecnn.model_folder import load

    card, network = load(args.model)
    store.put(name, onnx_bytes(card, network))
    print(f"{store.url(name)}: model {card.model_id}, segments of {card.settings.segment_samples} samples")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
