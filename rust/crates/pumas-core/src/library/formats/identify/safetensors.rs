//! What a safetensors header tells: the names and shapes of its tensors, and what trainers wrote beside them.

use indexmap::IndexMap;

use super::{Claims, Draft};
use crate::library::formats::families::{Kind, ModelType, kind_of_metadata};
use crate::library::formats::safetensors::SafetensorsHeader;
use crate::library::formats::tensor_names::{TensorNames, kind_of_tensors};

const PACKED_NAMES: [&str; 6] = [
    ".qweight",
    ".quant_state",
    ".weight_packed",
    ".absmax",
    ".qzeros",
    ".codebooks",
];
/// Several weights in one element; plain weights are never of these.
const PACKING_DTYPES: [&str; 3] = ["U8", "I32", "U32"];
const STORED_AS: [(&str, &str); 7] = [
    ("F32", "fp32"),
    ("F16", "fp16"),
    ("BF16", "bf16"),
    ("F8_E4M3", "fp8_e4m3fn"),
    ("F8_E5M2", "fp8_e5m2"),
    ("F64", "fp64"),
    ("I8", "int8"),
];

pub(super) fn from_safetensors(header: SafetensorsHeader, size: u64) -> Draft {
    let names = header.tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let shapes = header
        .tensors
        .into_iter()
        .map(|tensor| (tensor.name, tensor.shape))
        .collect();
    let tensors = TensorNames::new(names, shapes);
    let kind = with_metadata(kind_of_tensors(&tensors, size), &header.metadata);
    let all: u64 = header.elements.values().sum();
    let integers: u64 = PACKING_DTYPES
        .iter()
        .filter_map(|dtype| header.elements.get(dtype))
        .sum();
    let packed = tensors.any(&PACKED_NAMES) || integers as f64 > 0.05 * all as f64;
    let mut notes = Vec::new();
    if packed {
        notes.push("Weights are packed, so they were not counted.".to_owned());
    }
    if header.trailing > 0 {
        notes.push(format!(
            "{} bytes follow the last tensor; some programs will refuse the file.",
            header.trailing
        ));
    }
    let main = header
        .elements
        .iter()
        .rev()
        .max_by_key(|(_, count)| **count)
        .map_or("", |(dtype, _)| *dtype);
    let stored = STORED_AS
        .iter()
        .find(|(dtype, _)| *dtype == main && !packed)
        .map_or("", |(_, token)| *token);
    Draft {
        parameters: (!packed && kind.subtype != "loras" && header.tensor_count > 0).then_some(all),
        kind,
        quantization: stored.to_owned(),
        claims: safetensors_claims(&header.metadata),
        notes,
    }
}

fn safetensors_claims(metadata: &IndexMap<String, String>) -> Claims {
    let first_text = |keys: [&str; 2]| {
        keys.iter()
            .filter_map(|key| metadata.get(*key))
            .find(|text| !text.is_empty())
            .cloned()
            .unwrap_or_default()
    };
    let implementation = metadata
        .get("modelspec.implementation")
        .filter(|text| text.contains("huggingface.co"));
    Claims {
        name: first_text(["modelspec.title", "ss_output_name"]),
        base_model: first_text(["ss_sd_model_name", "base_model"]),
        repo_url: implementation.cloned().unwrap_or_default(),
        license: first_text(["modelspec.license", "license"]),
    }
}

/// Trainers' own words fill what the tensors leave open; they never overrule the tensors.
fn with_metadata(seen: Kind, metadata: &IndexMap<String, String>) -> Kind {
    let told = kind_of_metadata(metadata);
    if !told.is_known() || !matches!(seen.model_type, ModelType::Unknown | ModelType::Diffusion) {
        return seen;
    }
    let architecture = if seen.family.is_empty() && !told.architecture.is_empty() {
        told.architecture
    } else {
        seen.architecture
    };
    Kind {
        model_type: told.model_type,
        subtype: if seen.subtype.is_empty() {
            told.subtype
        } else {
            seen.subtype
        },
        family: if seen.family.is_empty() {
            told.family
        } else {
            seen.family
        },
        architecture,
    }
}
