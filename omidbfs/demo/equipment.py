"""The X-ray units, sites and mammographic views of the demo: constants that all its modules use."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Machine:
    """One X-ray unit: the constant values of its DICOM headers.

    ``pixel_spacing`` is ImagerPixelSpacing in mm at full size; ``years`` are the true years of its use.
    """

    manufacturer: str
    model: str
    software: str
    serial: str
    detector_type: str
    pixel_spacing: float
    targets: tuple[tuple[str, str], ...]
    private_creator: str
    years: range
    series_per_side: bool = False


_W = (("TUNGSTEN", "RHODIUM"), ("TUNGSTEN", "SILVER"))
_MO = (("MOLYBDENUM", "MOLYBDENUM"), ("MOLYBDENUM", "RHODIUM"))
_RH = (("MOLYBDENUM", "RHODIUM"), ("RHODIUM", "RHODIUM"))
_AL = (("TUNGSTEN", "ALUMINUM"),)

SITES: dict[str, tuple[Machine, ...]] = {
    "stge": (
        Machine(
            "HOLOGIC, Inc.",
            "Lorad Selenia",
            "AWS:MAMMODROC_3_4_1_8_PXCM:1.4.0.7",
            "28404080301",
            "DIRECT",
            0.07,
            _MO,
            "LORAD Selenia",
            range(2003, 2012),
        ),
        Machine(
            "HOLOGIC, Inc.",
            "Selenia Dimensions",
            "AWS:1.8.3.63_PXCM:1.7.3.10",
            "81004130222",
            "DIRECT",
            0.07,
            _W,
            "HOLOGIC, Inc.",
            range(2010, 2030),
        ),
    ),
    "jarv": (
        Machine(
            "GE MEDICAL SYSTEMS",
            "Senograph DS ADS_43.10.1",
            "ADS_43.10.1",
            "PVA0711",
            "SCINTILLATOR",
            0.1,
            _RH,
            "GEMS_SENO_02",
            range(2003, 2013),
            True,
        ),
        Machine(
            "GE HEALTHCARE",
            "Senographe Essential VERSION ADS_55.31.10",
            "ADS_55.31.10",
            "PVA1402",
            "SCINTILLATOR",
            0.1,
            _RH,
            "GEMS_SENO_02",
            range(2011, 2030),
            True,
        ),
        Machine(
            "HOLOGIC, Inc.",
            "Selenia Dimensions",
            "AWS:1.9.0.529_PXCM:1.8.0.12",
            "81009151007",
            "DIRECT",
            0.07,
            _W,
            "HOLOGIC, Inc.",
            range(2012, 2030),
        ),
    ),
    "adde": (
        Machine(
            "Sectra Imtec AB",
            "L30",
            "8.3",
            "MDM03117",
            "DIRECT",
            0.05,
            _AL,
            "Sectra_Imtec_01",
            range(2003, 2012),
        ),
        Machine(
            "Philips Digital Mammography Sweden AB",
            "L30",
            "9.0.2",
            "MDM04511",
            "DIRECT",
            0.05,
            _AL,
            "Sectra_Imtec_01",
            range(2011, 2030),
        ),
        Machine(
            "SIEMENS",
            "MAMMOMAT Inspiration",
            "VB30L SL41P49",
            "1437",
            "DIRECT",
            0.085,
            _W,
            "SIEMENS MED MG",
            range(2008, 2030),
        ),
        Machine(
            "FUJIFILM Corporation",
            "AMULET Innovality",
            "FDR-3000AWS V6.1",
            "66531207",
            "DIRECT",
            0.05,
            _W,
            "FUJIFILM",
            range(2013, 2030),
        ),
    ),
}
"""Site -> the units that it has used."""


def machine_of(site: str, year: int, random: Random) -> Machine:
    """Return a unit that ``site`` used in the true ``year``."""
    in_use = [machine for machine in SITES[site] if year in machine.years]
    return random.choice(in_use)


@dataclass(frozen=True, slots=True)
class View:
    """One view (CID 4014): ACR name, SNOMED code as in real headers, and PatientOrientation by side.

    ``angle`` is PositionerPrimaryAngle in degrees.
    """

    name: str
    code: str
    meaning: str
    orientation: dict[str, tuple[str, str]]
    angle: int


# Images hang with the chest wall of a left breast at the left edge and that of a right breast at the right edge:
# LCC and RCC stand back to back. Rows of a left image therefore run to anterior.
_AXIAL = {"L": ("A", "R"), "R": ("P", "L")}

VIEWS: dict[str, View] = {
    view.name: view
    for view in (
        View("CC", "R-10242", "cranio-caudal", _AXIAL, 0),
        View("MLO", "R-10226", "medio-lateral oblique", {"L": ("A", "FR"), "R": ("P", "FL")}, 50),
        View("ML", "R-10224", "medio-lateral", {"L": ("A", "F"), "R": ("P", "F")}, 90),
        View("XCCL", "R-1024A", "cranio-caudal exaggerated laterally", _AXIAL, 5),
        View("SPECIMEN", "G-8310", "tissue specimen", {}, 0),
    )
}
"""The views of the demo, by ACR name."""

MODIFIERS: dict[str, tuple[str, str]] = {
    "magnification": ("R-102D6", "Magnification"),
    "spot-compression": ("R-102D7", "Spot Compression"),
    "implant-displaced": ("R-102D5", "Implant Displaced"),
}
"""View modifiers, CID 4015: code and meaning."""
