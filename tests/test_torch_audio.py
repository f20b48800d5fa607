import subprocess
import sys


def test_torchaudio_is_imported_without_a_word_beside_a_torch_of_any_build():
    code = "import samplecnn.torch_audio as t; t.functional.gain; t.transforms.MelSpectrogram"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
