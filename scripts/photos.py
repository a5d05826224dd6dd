"""The free photos inside scikit-image's wheel, with their licences as scikit-image's documentation states them.

    pip download --no-deps scikit-image==0.26.0

What has no licence stated there (moon, the motorcycles) or is drawn (colour wheel, phantom, chessboards) is left out.
"""
import io
import zipfile

from PIL import Image

COLOUR = {
    "astronaut.png": "public domain (NASA)",
    "chelsea.png": "CC0 (Stefan van der Walt)",
    "coffee.png": "CC0 (Rachel Michetti)",
    "hubble_deep_field.jpg": "public domain (NASA)",
    "ihc.png": "no known restrictions (Center for Microscopy And Molecular Imaging)",
    "retina.jpg": "CC0 (Mikael Häggström)",
    "rocket.jpg": "public domain (SpaceX)",
}
GREY = {
    "brick.png": "CC0 (CC0Textures, Bricks25)",
    "camera.png": "CC0 (Lav Varshney)",
    "coins.png": "no known restrictions (Brooklyn Museum)",
    "grass.png": "CC0 (linolafett)",
    "gravel.png": "CC0 (CC0Textures, Gravel04)",
}


def photos(wheel, names):
    """Those of these names, each as an RGB picture."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: Image.open(io.BytesIO(archive.read(f"skimage/data/{name}"))).convert("RGB") for name in names}
