"""Codes of NBSS (tables DS0026) and their texts, as in ``omidb.episode``, ``omidb.events``, ``omidb.lesion``.

The reader of NBSS, the clinical rules and the facets use these constants, from any thread.
"""

CLASSIFICATIONS: dict[str, str] = {"N": "Normal", "B": "Benign", "M": "Malignant", "CI": "Interval Cancer"}
"""Classification of a client in the source (``omidb.client.Status``)."""

EPISODE_TYPES: dict[str, str] = {
    "CA": "Continued Assessment",
    "CD": "Delayed Treatment",
    "CF": "Follow-up after treatment",
    "CI": "Interval case",
    "CR": "Local Recurrence",
    "F": "First Call",
    "G": "GP Referral",
    "H": "Higher Risk",
    "N": "Non-rout Recall",
    "R": "Routine Recall",
    "S": "Self Referral",
    "X": "Other",
}
"""``omidb.episode.Type``."""

EPISODE_ACTIONS: dict[str, str] = {
    "EC": "Early Recall for Clinic",
    "ES": "Early Recall for Screening",
    "FN": "Fine Needle Aspiration",
    "FP": "Follow-up (Post-treatment)",
    "FV": "Further X-ray views",
    "IP": "Inpatient biopsy",
    "MT": "Medical Treatment",
    "NA": "No Action from this procedure",
    "R2": "Routine second film opinion (obsolete)",
    "RC": "Review in clinic",
    "RF": "Referral to consultant/GP",
    "RR": "Routine recall for screening",
    "ST": "Surgical Treatment",
    "TR": "Repeat Film (technical)",
    "WB": "Wide Bore Needle",
}
"""``omidb.episode.Action``."""

SIDE_OPINIONS: dict[str, str] = {
    "OB": "Benign",
    "OM": "Malignant",
    "ON": "Normal",
    "OS": "Suspicious",
    "OU": "Uncertain",
}
"""Opinion on one breast after a procedure (``omidb.events.SideOpinion``)."""

OPINIONS: dict[str, str] = {
    "A1": "Assess normal",
    "A2": "Assess benign",
    "A3": "Assess uncert'n",
    "A4": "Assess suspic",
    "A5": "Assess malig",
    "B1": "Unsatis/Normal",
    "B2": "Benign",
    "B3": "Benign unc mal",
    "B4": "Susp of malig",
    "B5": "Malignant",
    "BA": "Clinical",
    "C1": "Cyt unsatis",
    "C2": "Cyt benign",
    "C3": "Cyt atypia",
    "C4": "Cyt susp malig",
    "C5": "Cyt malig",
    "H0": "Hist unreported",
    "H1": "Histol normal",
    "H2": "Histol benign",
    "H5": "Hist malignant",
    "I1": "Imaging normal",
    "I2": "Imaging benign",
    "I3": "Imaging uncertain",
    "I4": "Imaging suspicious",
    "I5": "Imaging malig",
    "MRI1": "MRI normal",
    "MRI2": "MRI benign",
    "MRI3": "MRI indeterminate",
    "MRI4": "MRI suspicious",
    "MRI5": "MRI malig",
    "OB": "O Benign",
    "OM": "O Malignant",
    "ON": "O Normal",
    "OS": "O Suspicious",
    "OU": "O Uncertain",
    "P1": "Clin normal",
    "P2": "Clin benign",
    "P3": "Clin uncertain",
    "P4": "Clin suspicious",
    "P5": "Clin malignant",
    "R1": "Rad normal",
    "R2": "Rad benign",
    "R3": "Rad uncertain",
    "R4": "Rad suspicious",
    "R5": "Rad malig",
    "RB": "R Benign",
    "RM": "R Malignant",
    "RN": "R Normal",
    "RO": "R Unreported",
    "RS": "R Suspicious",
    "RU": "R Uncertain",
    "SH": "History suspic",
    "U1": "USS normal",
    "U2": "USS benign",
    "U3": "USS uncertain",
    "U4": "USS suspicious",
    "U5": "USS malig",
}
"""Opinion on one lesion after a procedure (``omidb.events.Opinion``)."""

LESION_DESCRIPTIONS: dict[str, str] = {
    "AS": "Asymmetry",
    "CA": "Calcification only",
    "CY": "Cyst",
    "DS": "Distortion",
    "LN": "Lymph node",
    "MA": "Mass",
    "MC": "Mass with calcification",
    "NA": "No significant abnormality",
    "ZZ": "Clinical abnormality",
}
"""``omidb.lesion.LesionDescription``."""

LESION_POSITIONS: dict[str, str] = {
    position: position
    for position in ("LM", "RM", *(side + ring + part for side in "LR" for ring in "ABCDE" for part in "1234"))
}
"""``omidb.lesion.LesionPosition``, in its order; these codes have no text."""

MALIGNANCY_TYPES: dict[str, str] = {"a": "In-situ", "b": "Invasive", "c": "Not assessable"}
"""``omidb.lesion.MalignancyType``."""

INVASIVE_COMPONENTS: dict[str, str] = {
    "IDC": "Ductal/NST",
    "ILC": "Lobular",
    "IMC": "Medullary like",
    "IMU": "Mucinous",
    "IPX": "Other component",
    "ITC": "Tubular/cribriform",
}
"""``omidb.lesion.InvasiveCarcinomaComponent``."""

INSITU_COMPONENTS: dict[str, str] = {"NID": "Ductal", "NIL": "Lobular", "NIP": "Paget’s"}
"""``omidb.lesion.InSituCarcinomaComponent``."""

DISEASE_GRADES: dict[str, str] = {"G1": "I", "G2": "II", "G3": "III", "NA": "Not assessable"}
"""``omidb.lesion.HistologicalGrade``."""

INVASIVE_TYPES: dict[str, str] = {"IN": "Ductal/NST", "IP": "Pure Special Type", "IM": "Mixed", "IO": "Other"}
"""``omidb.lesion.InvasiveCarcinomaType``."""

DCIS_GRADES: dict[str, str] = {"NDH": "High", "NDI": "Intermediate", "NDL": "Low", "NDN": "Not assessable"}
"""``omidb.lesion.DCISGrade``."""

HORMONE_STATUSES: dict[str, str] = {"RP": "Positive", "RN": "Negative", "RU": "Unknown"}
"""Status of the oestrogen (ER) and progesterone (PR) receptors."""

HER2_STATUSES: dict[str, str] = {"RP": "Positive", "RN": "Negative", "RB": "Borderline", "RU": "Unknown"}
"""Status of the HER2 receptor."""

EVENTS: dict[str, str] = {
    "screening": "SCREENING",
    "assessment": "ASSESSMENT",
    "clinical": "CLINICAL",
    "biopsy_wide": "BIOPSYWIDE",
    "biopsy_fine": "BIOPSYFINE",
    "surgery": "SURGERY",
}
"""Event name -> JSON key, in the order of ``omidb.events.Events``: linking and the summary depend on it."""

SIDES = ("L", "R")
