"""Makes the bytes of the DICOM file and the sidecar of an image (PS3.3 A.26, Digital Mammography X-Ray Image IOD).

``tree`` uses it. Elements in Explicit VR Little Endian do not depend on each other. A header is therefore composed
of layers (unit, study, image). Pydicom encodes each layer once, as bytes and in the DICOM JSON model (PS3.18 F). A
header takes 2.7 ms this way; encoding a whole header for every image would take 4.9 ms.
"""

import json
import struct
from datetime import datetime, timedelta
from random import Random
from typing import Any

from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.uid import (
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
)

from omidbfs.database.values import ANONYMISED
from omidbfs.demo.equipment import MODIFIERS, VIEWS, Machine
from omidbfs.demo.history import History
from omidbfs.demo.imaging import PRESENTATION, PROCESSING, ROOT, Image, Matrix, Study

Layer = dict[str, tuple[bytes, Any]]
"""Encoded elements: tag in hexadecimal -> the bytes, and the value in the DICOM JSON model."""

FULL_ROWS = 3328

_SOP_CLASSES = {
    PRESENTATION: DigitalMammographyXRayImageStorageForPresentation,
    PROCESSING: DigitalMammographyXRayImageStorageForProcessing,
}
_DESCRIPTIONS = {
    "screening": "Screening - bilateral mammography",
    "assessment": "Assessment - additional views",
    "symptomatic": "Symptomatic - bilateral mammography",
    "biopsy": "Specimen radiography",
}


def encode(dataset: Dataset) -> Layer:
    """Return the elements of ``dataset`` as a layer."""
    values = dataset.to_json_dict()
    encodings = convert_encodings("ISO_IR 100")
    layer: Layer = {}
    for element in dataset:
        out = DicomBytesIO()
        out.is_little_endian, out.is_implicit_VR = True, False
        write_data_element(out, element, encodings)
        tag = f"{int(element.tag):08X}"
        layer[tag] = (out.getvalue(), values[tag])
    return layer


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _decimal(value: float) -> str:
    return f"{value:.5g}"


def _fill(dataset: Dataset, **values: Any) -> Dataset:
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def unit_layer(machine: Machine, matrix: Matrix) -> Layer:
    """Return the elements that all images of one X-ray unit share."""
    spacing = machine.pixel_spacing * FULL_ROWS / matrix.rows
    height, width = round(spacing * matrix.rows), round(spacing * matrix.columns)
    dataset = _fill(
        Dataset(),
        SpecificCharacterSet="ISO_IR 100",
        Modality="MG",
        Manufacturer=machine.manufacturer,
        ManufacturerModelName=machine.model,
        InstitutionName=ANONYMISED,
        InstitutionAddress=ANONYMISED,
        InstitutionalDepartmentName=ANONYMISED,
        StationName=ANONYMISED,
        ReferringPhysicianName=ANONYMISED,
        PerformingPhysicianName=ANONYMISED,
        OperatorsName=ANONYMISED,
        DeviceSerialNumber=machine.serial,
        SoftwareVersions=machine.software,
        PatientIdentityRemoved="YES",
        DeidentificationMethod=ANONYMISED,
        BodyPartExamined="BREAST",
        OrganExposed="BREAST",
        PositionerType="MAMMOGRAPHIC",
        DetectorType=machine.detector_type,
        DetectorConfiguration="AREA",
        DetectorDescription="Amorphous selenium" if machine.detector_type == "DIRECT" else "CsI on a-Si",
        DetectorMode="STATIC",
        DetectorID=f"D{machine.serial}",
        DetectorConditionsNominalFlag="YES",
        DetectorBinning=["1", "1"],
        DetectorActiveShape="RECTANGLE",
        DetectorActiveDimensions=[str(height), str(width)],
        DetectorElementPhysicalSize=[_decimal(spacing)] * 2,
        DetectorElementSpacing=[_decimal(spacing)] * 2,
        FieldOfViewShape="RECTANGLE",
        FieldOfViewDimensions=[str(height), str(width)],
        FieldOfViewOrigin=["0", "0"],
        FieldOfViewRotation="0",
        ImagerPixelSpacing=[_decimal(spacing)] * 2,
        DistanceSourceToDetector="660",
        DistanceSourceToPatient="640",
        RectificationType="CONST POTENTIAL",
        ExposureControlMode="AUTOMATIC",
        ExposureControlModeDescription="AOP contrast mode",
        ExposureStatus="NORMAL",
        BurnedInAnnotation="NO",
        LossyImageCompression="00",
        QualityControlImage="NO",
        SamplesPerPixel=1,
        Rows=matrix.rows,
        Columns=matrix.columns,
        BitsAllocated=16,
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=0,
        RescaleIntercept="0",
        RescaleSlope="1",
        RescaleType="US",
        AnatomicRegionSequence=[_code("T-04000", "SNM3", "Breast")],
        AcquisitionContextSequence=[],
    )
    block = dataset.private_block(0x0019, machine.private_creator, create=True)
    block.add_new(0x06, "LO", machine.software.split("_")[0])
    block.add_new(0x07, "IS", str(matrix.rows))
    block.add_new(0x16, "SH", "CAL-OK")
    block.add_new(0x26, "DS", "1.2")
    return encode(dataset)


def study_layer(history: History, study: Study, random: Random) -> Layer:
    """Return the elements that all images of one study share."""
    day, time = f"{study.day:%Y%m%d}", f"{study.minute // 60:02d}{study.minute % 60:02d}00"
    dataset = _fill(
        Dataset(),
        StudyInstanceUID=study.uid,
        PatientName=ANONYMISED,
        PatientID=history.client,
        PatientBirthDate="",
        PatientSex="F",
        PatientAge=f"{study.episode.age:03d}Y",
        PatientComments=ANONYMISED,
        EthnicGroup="",
        StudyDate=day,
        StudyTime=time,
        SeriesDate=day,
        AcquisitionDate=day,
        ContentDate=day,
        InstanceCreationDate=day,
        AccessionNumber="",
        StudyID=ANONYMISED,
        StudyDescription=_DESCRIPTIONS[study.purpose],
        ProtocolName="ROUTINE" if study.purpose == "screening" else "DIAGNOSTIC",
        PerformedProcedureStepStartDate=day,
        PerformedProcedureStepStartTime=time,
        PerformedProcedureStepID=ANONYMISED,
        PerformedProcedureStepDescription=_DESCRIPTIONS[study.purpose],
        RequestedProcedureDescription=ANONYMISED,
        DateOfLastDetectorCalibration=f"{study.day - timedelta(random.randint(1, 6)):%Y%m%d}",
        TimeOfLastDetectorCalibration="073000",
        DetectorTemperature=_decimal(random.uniform(25, 32)),
        ExposuresOnDetectorSinceManufactured=str(random.randint(4000, 90000)),
        ExposuresOnDetectorSinceLastCalibration=str(random.randint(4, 260)),
        DetectorActiveTime=str(random.randint(900, 2400)),
        BreastImplantPresent="YES" if history.implant else "NO",
    )
    related = Dataset()
    related.StudyInstanceUID, related.SeriesInstanceUID = study.uid, study.images[0].series
    related.PurposeOfReferenceCodeSequence = [_code("122403", "DCM", "For Comparison")]
    dataset.RelatedSeriesSequence = [related]
    request = Dataset()
    request.RequestedProcedureID = request.ScheduledProcedureStepID = ANONYMISED
    request.ScheduledProcedureStepDescription = _DESCRIPTIONS[study.purpose]
    dataset.RequestAttributesSequence = [request]
    return encode(dataset)


def _exposure(dataset: Dataset, study: Study, image: Image, random: Random) -> None:
    """Set the dose and compression of one exposure (PS3.3 C.8.7.8, C.8.11.7)."""
    thickness = random.randint(32, 82)
    target, material = random.choice(study.machine.targets)
    enlarged = 1.8 if "magnification" in image.modifiers else 1.0 + 0.5 * thickness / 640
    milliampere_seconds = random.randint(45, 180)
    _fill(
        dataset,
        KVP=str(24 + thickness // 10),
        XRayTubeCurrent=str(100),
        ExposureTime=str(milliampere_seconds * 10),
        Exposure=str(milliampere_seconds),
        ExposureInuAs=str(milliampere_seconds * 1000),
        AnodeTargetMaterial=target,
        FilterType="STRIP",
        FilterMaterial=material,
        FilterThicknessMinimum="0.05",
        FilterThicknessMaximum="0.05",
        FocalSpots="0.1" if enlarged == 1.8 else "0.3",
        Grid="NONE" if enlarged == 1.8 else ["RECIPROCATING", "FOCUSED"],
        BodyPartThickness=str(thickness),
        CompressionForce=_decimal(random.uniform(50, 150)),
        RelativeXRayExposure=str(random.randint(350, 600)),
        EntranceDose=random.randint(3, 12),
        EntranceDoseInmGy=_decimal(random.uniform(3, 12)),
        OrganDose=_decimal(random.uniform(0.009, 0.028)),
        HalfValueLayer=_decimal(random.uniform(0.36, 0.58)),
        EstimatedRadiographicMagnificationFactor=_decimal(enlarged),
        PaddleDescription="10CM CONTACT" if "spot-compression" in image.modifiers else "18X24CM",
    )


def _presentation(dataset: Dataset, study: Study, image: Image, matrix: Matrix) -> None:
    """Set the elements that depend on the intent (PS3.3 C.8.11.3: LOG and IDENTITY, or LIN and INVERSE)."""
    shown = image.intent == PRESENTATION
    _fill(
        dataset,
        SOPClassUID=_SOP_CLASSES[image.intent],
        PresentationIntentType=image.intent,
        ImageType=["DERIVED" if shown else "ORIGINAL", "PRIMARY"],
        PhotometricInterpretation="MONOCHROME2" if shown else "MONOCHROME1",
        PixelIntensityRelationship="LOG" if shown else "LIN",
        PixelIntensityRelationshipSign=-1 if shown else 1,
        PresentationLUTShape="IDENTITY" if shown else "INVERSE",
    )
    if not shown:
        return
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = _SOP_CLASSES[PROCESSING], image.source
    source.SpatialLocationsPreserved = "YES"
    source.PurposeOfReferenceCodeSequence = [_code("121322", "DCM", "Source image for image processing operation")]
    spacing = study.machine.pixel_spacing * FULL_ROWS / matrix.rows
    magnified = spacing / float(dataset.EstimatedRadiographicMagnificationFactor)
    _fill(
        dataset,
        SourceImageSequence=[source],
        PixelSpacing=[_decimal(magnified)] * 2,
        PixelSpacingCalibrationType="GEOMETRY",
        PixelSpacingCalibrationDescription="Magnification at the breast support",
        WindowCenter=["1900", "2100"],
        WindowWidth=["3000", "3600"],
        WindowCenterWidthExplanation=["NORMAL", "SOFTER"],
        VOILUTFunction="LINEAR",
        AcquisitionDeviceProcessingDescription="PROCESSED",
        DerivationDescription="Processed for presentation",
    )


def image_layer(study: Study, image: Image, matrix: Matrix, random: Random) -> Layer:
    """Return the elements of one image alone."""
    view = VIEWS[image.view]
    at = datetime(2000, 1, 1) + timedelta(minutes=study.minute + 2 * image.number, seconds=image.number)
    angle = view.angle if image.side == "L" else -view.angle
    dataset = _fill(
        Dataset(),
        SOPInstanceUID=image.uid,
        SeriesInstanceUID=image.series,
        SeriesNumber=("1" if image.intent == PRESENTATION else "2") + ("1" if image.side == "L" else ""),
        SeriesDescription=f"{image.side} {image.view}" if study.machine.series_per_side else study.purpose.upper(),
        InstanceNumber=str(image.number),
        AcquisitionNumber=str(image.number),
        **dict.fromkeys(("SeriesTime", "AcquisitionTime", "ContentTime", "InstanceCreationTime"), f"{at:%H%M%S}"),
        ImageLaterality=image.side,
        ViewPosition="" if image.view == "SPECIMEN" else image.view,
        PatientOrientation=list(view.orientation.get(image.side, ())),
        PositionerPrimaryAngle=str(angle),
        PositionerSecondaryAngle="0",
        PartialView="YES" if "spot-compression" in image.modifiers else "NO",
        FieldOfViewHorizontalFlip="YES" if image.side == "R" else "NO",
        ImageComments=ANONYMISED,
    )
    if study.machine.series_per_side:
        dataset.Laterality = image.side
    code = _code(view.code, "SNM3", view.meaning)
    code.ViewModifierCodeSequence = [
        _code(MODIFIERS[name][0], "SNM3", MODIFIERS[name][1]) for name in image.modifiers
    ]
    dataset.ViewCodeSequence = [code]
    _exposure(dataset, study, image, random)
    _presentation(dataset, study, image, matrix)
    return encode(dataset)


def dicom_of(image: Image, header: Layer, pixels: bytes) -> bytes:
    """Return a DICOM file (PS3.10 7.1): preamble, file meta information, ``header`` and ``pixels``."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = _SOP_CLASSES[image.intent]
    meta.MediaStorageSOPInstanceUID = UID(image.uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(ROOT)
    meta.ImplementationVersionName = "OMIDBFS_DEMO"
    out = DicomBytesIO()
    out.write(bytes(128) + b"DICM")
    write_file_meta_info(out, meta)
    head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, len(pixels))
    return b"".join((out.getvalue(), *(header[tag][0] for tag in sorted(header)), head, pixels))


def sidecar_of(header: Layer) -> bytes:
    """Return the sidecar: ``header`` in the DICOM JSON model, with the transfer syntax that OMI-DB adds."""
    syntax = {"00020010": {"vr": "UI", "Value": [ExplicitVRLittleEndian]}}
    return json.dumps(syntax | {tag: header[tag][1] for tag in sorted(header)}).encode()
