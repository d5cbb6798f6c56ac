"""Files that hold several images."""

import pytest
from PIL import Image

from nasnet_keras.data.frames import note_of_frames
from nasnet_keras.data.loading import open_data


@pytest.mark.parametrize(("suffix", "count"), [("tif", 5), ("gif", 3), ("webp", 2), ("png", 4)])
def test_files_of_several_pages_or_frames_are_told(suffix, count, tmp_path):
    pages = [Image.new("RGB", (8, 8), (40 * number, 0, 90)) for number in range(count)]
    for number in range(8):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        more = {"save_all": True, "append_images": pages[1:]} if number < 3 else {}
        pages[0].save(tmp_path / "ab"[number % 2] / f"{number}.{suffix}", **more)
    note = f"3 of 8 images looked at have several pages or frames, up to {count}: the first is used"
    assert note in open_data(tmp_path, validation=0, test=0).notes


def test_what_a_camera_puts_behind_a_photograph_is_no_page(tmp_path):
    pages = [Image.new("RGB", (8, 8), (40 * number, 0, 90)) for number in range(2)]
    pages[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pages[1:])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.n_frames == 2
    assert note_of_frames((str(tmp_path / "a.jpg"), b"broken")) is None and note_of_frames(()) is None
