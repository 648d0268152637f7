//! What a GGUF header tells: its own words first, and its tensors where these leave the kind of model open.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::{Claims, Draft};
use crate::library::formats::families::{Kind, ModelType, family_of, kind, type_of};
use crate::library::formats::gguf::{GgufHeader, GgufScalar, GgufValue, elements, tensor_type_of};
use crate::library::formats::quantization::gguf_file_type;
use crate::library::formats::tensor_names::{TensorNames, kind_of_tensors};

pub(super) fn from_gguf(header: &GgufHeader, size: u64) -> Draft {
    let mut quantization = gguf_file_type(header.integer("general.file_type")).to_owned();
    if quantization.is_empty() {
        commonest_type(header).clone_into(&mut quantization);
    }
    let partial = header.integer("split.count").unwrap_or(0) > 1;
    let first_text = |keys: &[&str]| {
        keys.iter()
            .map(|key| header.text(key))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let base_repo = repo_id(header.text("general.base_model.0.repo_url"));
    let base_name = || header.text("general.base_model.0.name").to_owned();
    Draft {
        kind: gguf_kind(header, size),
        quantization,
        parameters: (!partial && !header.tensors.is_empty()).then(|| header.parameters()),
        claims: Claims {
            name: first_text(&["general.name", "general.basename"]),
            base_model: if base_repo.is_empty() {
                base_name()
            } else {
                base_repo
            },
            repo_url: first_text(&["general.repo_url", "general.source.repo_url", "general.url"]),
            license: first_text(&["general.license"]),
        },
        notes: if header.version == 1 {
            vec!["GGUF version 1; most programs of today refuse it.".to_owned()]
        } else {
            Vec::new()
        },
    }
}

fn gguf_kind(header: &GgufHeader, size: u64) -> Kind {
    let architecture = header.text("general.architecture");
    let role = header.text("general.type");
    let family = family_of(architecture);
    let of = |model_type, subtype: &'static str, family: &str| Kind {
        family: family.to_owned().into(),
        architecture: architecture.to_owned().into(),
        ..kind(model_type, subtype, "", "")
    };
    if matches!(architecture, "clip" | "mmproj") || role == "mmproj" {
        return projector(header, architecture, &family);
    }
    let special = type_of(architecture);
    if role == "adapter" || header.text("adapter.type") == "lora" {
        let of_images = special.filter(|special| *special == ModelType::Diffusion);
        return of(of_images.unwrap_or(ModelType::Llm), "loras", &family);
    }
    if architecture == "controlvector" {
        let family = header.text("controlvector.model_hint");
        return of(ModelType::Llm, "control_vector", family);
    }
    if role == "imatrix" || architecture == "imatrix" {
        return kind(ModelType::Unknown, "imatrix", "", "");
    }
    if special == Some(ModelType::Diffusion) {
        let seen = kind_of_tensors(&gguf_tensors(header), size);
        let mut found = of(ModelType::Diffusion, "diffusion_models", &family);
        if seen.model_type == ModelType::Diffusion && !seen.subtype.is_empty() {
            found.subtype = seen.subtype;
        }
        if family.is_empty() {
            found.family = seen.family;
        }
        return found;
    }
    if let Some(special) = special {
        return of(special, "", &family);
    }
    if architecture == "t5encoder" {
        return of(ModelType::Diffusion, "t5", &family);
    }
    let named = !architecture.is_empty();
    let pooling = header.integer(&format!("{architecture}.pooling_type"));
    if named && pooling.is_some_and(|pooling| pooling > 0) {
        return of(ModelType::Embedding, "", &family);
    }
    if named && (speaks(header, architecture) || header.tensors.is_empty()) {
        return of(ModelType::Llm, "", &family);
    }
    // Programs for images also write files without an architecture, or with one of their own.
    let seen = kind_of_tensors(&gguf_tensors(header), size);
    if seen.is_known() {
        let architecture = if named {
            architecture.to_owned().into()
        } else {
            seen.architecture
        };
        return Kind { architecture, ..seen };
    }
    of(
        if named { ModelType::Llm } else { ModelType::Unknown },
        "",
        &family,
    )
}

/// What makes tokens for a language model of pictures or sounds.
fn projector(header: &GgufHeader, architecture: &str, family: &str) -> Kind {
    let audio = Some(&GgufValue::Scalar(GgufScalar::Bool(true)));
    let only_audio =
        header.metadata.get("clip.has_audio_encoder") == audio && !header.is_set("clip.has_vision_encoder");
    let model_type = if only_audio {
        ModelType::Audio
    } else {
        ModelType::Vision
    };
    let named = |text: &str| if text.is_empty() { "clip" } else { text }.to_owned();
    Kind {
        family: named(family).into(),
        architecture: named(architecture).into(),
        ..kind(model_type, "mmproj", "", "")
    }
}

fn gguf_tensors(header: &GgufHeader) -> TensorNames {
    let names = header.tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let reversed = |shape: &[u64]| shape.iter().rev().copied().collect();
    let shapes: HashMap<_, _> = header
        .tensors
        .iter()
        .map(|tensor| (tensor.name.clone(), reversed(&tensor.shape)))
        .collect();
    TensorNames::new(names, shapes)
}

/// Whether the header has what every language model has.
fn speaks(header: &GgufHeader, architecture: &str) -> bool {
    let own = |key: &str| header.metadata.contains_key(&format!("{architecture}.{key}"));
    header.metadata.contains_key("tokenizer.ggml.model") || own("context_length") || own("block_count")
}

/// The type that most weights are stored in; `""` when there are none.
fn commonest_type(header: &GgufHeader) -> &'static str {
    let mut sums: IndexMap<u32, u128> = IndexMap::new();
    for tensor in header.tensors.iter().filter(|tensor| tensor.shape.len() > 1) {
        let sum = sums.entry(tensor.kind).or_default();
        *sum = sum.saturating_add(elements(&tensor.shape));
    }
    let most = sums.into_iter().rev().max_by_key(|(_, sum)| *sum);
    most.and_then(|(number, _)| tensor_type_of(number))
        .map_or("", |found| found.name)
}

/// `org/name` of a Hugging Face address, or `""`.
fn repo_id(url: &str) -> String {
    let rest = url
        .split_once("huggingface.co/")
        .map_or("", |(_, rest)| rest)
        .trim_matches('/');
    let parts: Vec<&str> = rest.split('/').take(2).collect();
    if parts.len() == 2 {
        parts.join("/")
    } else {
        String::new()
    }
}
