//! What a set of tensor names says about the model that they belong to.
//!
//! The rules stand in `tensor_rules`. Knows nothing about files; `identify` brings the names.

use std::collections::HashMap;

use memchr::memmem;

use super::families::{Kind, ModelType, kind};
use super::tensor_rules::{RULES, Rule};

const MAX_NAMES: usize = 20_000;
const MAX_TEXT: usize = 1_000_000;

/// Suffixes of names that only adapters have, after a dot.
const ADAPTED_PARTS: &[&str] = &[
    "lora_A",
    "lora_B",
    "lora_up",
    "lora_down",
    "lora_a",
    "lora_b",
    "lora_linear_layer",
    "lora_embedding_A",
    "lora_embedding_B",
    "lora_magnitude_vector",
];
const ADAPTED_WEIGHTS: &[&str] = &[
    ".hada_w1_a",
    ".hada_w1_b",
    ".hada_w2_a",
    ".hada_w2_b",
    ".hada_t1",
    ".hada_t2",
    ".lokr_w1",
    ".lokr_w1_a",
    ".lokr_w1_b",
    ".lokr_w2",
    ".lokr_w2_a",
    ".lokr_w2_b",
    ".lokr_t2",
    ".oft_blocks",
    ".oft_diag",
    ".boft_blocks",
    ".dora_scale",
    ".diff_b",
    ".diff",
    ".glora_a1",
    ".glora_a2",
    ".glora_b1",
    ".glora_b2",
];
const LANGUAGE_BLOCKS: [&str; 3] = ["layers", "h", "blk"];
const LANGUAGE_LAYERS: [&str; 6] = [
    "self_attn",
    "mlp",
    "attn",
    "attention",
    "linear_attn",
    "block_sparse_moe",
];
const ENOUGH_MARKS: usize = 5;
const LARGE_BYTES: u64 = 1_000_000_000;
/// The text encoders inside a checkpoint of SDXL.
const SDXL_TEXT: &str = "^conditioner.embedders.";

/// Names, and shapes where they are known. Of very many names only the first count.
pub(super) struct TensorNames {
    names: Vec<String>,
    shapes: HashMap<String, Vec<u64>>,
    joined: String,
}

impl TensorNames {
    pub(super) fn new(mut names: Vec<String>, shapes: HashMap<String, Vec<u64>>) -> Self {
        let mut size = 0;
        let enough = names.iter().position(|name| {
            size += name.chars().count();
            size > MAX_TEXT
        });
        names.truncate(enough.unwrap_or(MAX_NAMES).min(MAX_NAMES));
        let joined = format!("\n{}\n", names.join("\n"));
        Self {
            names,
            shapes,
            joined,
        }
    }

    pub(super) fn has(&self, fragment: &str) -> bool {
        let fragment = fragment.replace('^', "\n");
        memmem::find(self.joined.as_bytes(), fragment.as_bytes()).is_some()
    }

    pub(super) fn any(&self, fragments: &[&str]) -> bool {
        fragments.iter().any(|fragment| self.has(fragment))
    }

    fn count(&self, matches: impl Fn(&str) -> bool) -> usize {
        self.names.iter().filter(|name| matches(name)).count()
    }

    /// The last dimension of the first tensor whose name holds `fragment`; 0 when it is not known.
    fn width(&self, fragment: &str) -> u64 {
        let mut named = self.names.iter().filter(|name| name.contains(fragment));
        named
            .find_map(|name| self.shapes.get(name)?.last())
            .copied()
            .unwrap_or(0)
    }

    /// Only the names that begin with `prefix`, which is taken off.
    fn inside(&self, prefix: &str) -> Self {
        let mut names = Vec::new();
        let mut shapes = HashMap::new();
        for name in &self.names {
            if let Some(short) = name.strip_prefix(prefix) {
                if let Some(shape) = self.shapes.get(name) {
                    shapes.insert(short.to_owned(), shape.clone());
                }
                names.push(short.to_owned());
            }
        }
        Self::new(names, shapes)
    }
}

impl Rule {
    fn holds(&self, tensors: &TensorNames) -> bool {
        self.all.iter().all(|group| tensors.any(group)) && !tensors.any(self.unless())
    }
}

fn first(rules: &[Rule], tensors: &TensorNames) -> Option<Kind> {
    rules.iter().find(|rule| rule.holds(tensors)).map(Rule::kind)
}

fn image(family: &'static str, subtype: &'static str) -> Kind {
    kind(ModelType::Diffusion, subtype, family, family)
}

/// What the names say; `size` of the file in bytes. Unknown when they say nothing.
pub(super) fn kind_of_tensors(tensors: &TensorNames, size: u64) -> Kind {
    let adapted = tensors.count(is_adapted);
    if adapted > 0 && 2 * adapted >= tensors.names.len() {
        return adapter(tensors);
    }
    if let Some(width) = inversion_width(tensors) {
        return kind(
            ModelType::Diffusion,
            "embeddings",
            family_of_width(width),
            "textual-inversion",
        );
    }
    first(&RULES.controlnets, tensors)
        .or_else(|| image_model(tensors))
        .or_else(|| first(&RULES.purposes, tensors))
        .or_else(|| first(&RULES.vaes, tensors))
        .unwrap_or_else(|| by_counting(tensors, size))
}

fn image_model(tensors: &TensorNames) -> Option<Kind> {
    let wraps = |wrapper: &&&str| tensors.has(&format!("^{wrapper}"));
    let image_wrapper = RULES.image_wrappers.iter().find(wraps);
    let prefix = image_wrapper.or_else(|| RULES.other_wrappers.iter().find(wraps));
    let unwrapped = prefix.map(|prefix| tensors.inside(prefix));
    let inner = unwrapped.as_ref().unwrap_or(tensors);
    if let Some(controlnet) = first(&RULES.controlnets, inner) {
        return Some(controlnet);
    }
    let mut kind = first(&RULES.image_transformers, inner)
        .or_else(|| unet(inner, tensors))
        .or_else(|| {
            // Else of a family that we do not know.
            let family = if tensors.has(SDXL_TEXT) { "sdxl" } else { "" };
            image_wrapper.map(|_| image(family, "diffusion_models"))
        })?;
    if prefix.is_some() && tensors.any(&RULES.other_parts) {
        kind.subtype = "checkpoints".into();
    }
    Some(kind)
}

fn unet(inner: &TensorNames, checkpoint: &TensorNames) -> Option<Kind> {
    let mut kind = first(&RULES.unets, inner)?;
    if kind.family == "sdxl" {
        return Some(kind);
    }
    let width = inner.width("attn2.to_k.");
    if matches!(width, 1280 | 2048) || checkpoint.has(SDXL_TEXT) {
        return Some(image("sdxl", "diffusion_models"));
    }
    let second = width == 1024 || checkpoint.has("^cond_stage_model.model.");
    kind.architecture = if second { "sd2" } else { "sd1" }.into();
    Some(kind)
}

fn adapter(tensors: &TensorNames) -> Kind {
    let holds = |fragments: &'static [&str]| {
        move |name: &str| fragments.iter().any(|fragment| name.contains(fragment))
    };
    let images = tensors.count(holds(&RULES.adapted_image_words)) > 0;
    if !images && tensors.count(is_language_layer) > 0 {
        let family = first(&RULES.language_models, tensors)
            .map(|found| found.family)
            .unwrap_or_default();
        return Kind {
            family,
            ..kind(ModelType::Llm, "loras", "", "lora")
        };
    }
    let width = RULES
        .text_keys
        .iter()
        .map(|key| tensors.width(key))
        .find(|width| *width > 0)
        .unwrap_or(0);
    let family = first(&RULES.adapted_image_models, tensors)
        .map_or_else(|| family_of_width(width).into(), |found| found.family);
    let model_type = if images || !family.is_empty() {
        ModelType::Diffusion
    } else {
        ModelType::Unknown
    };
    Kind {
        family,
        ..kind(model_type, "loras", "", "lora")
    }
}

/// The family whose image models listen to texts of this width.
fn family_of_width(width: u64) -> &'static str {
    RULES
        .families_of_text_width
        .get(&width)
        .copied()
        .unwrap_or_default()
}

/// The width of a textual inversion: a few vectors under one of the names that trainers give them. 0 when not known.
fn inversion_width(tensors: &TensorNames) -> Option<u64> {
    let first = tensors.names.first()?;
    let shape = tensors.shapes.get(first).map_or(&[][..], Vec::as_slice);
    let width = shape.last().copied().unwrap_or(0);
    let named = tensors
        .names
        .iter()
        .all(|name| RULES.inversion_names.contains(&name.as_str()));
    let vector = matches!(shape.len(), 1 | 2) && !family_of_width(width).is_empty();
    (named || (tensors.names.len() == 1 && first.starts_with('<') && vector)).then_some(width)
}

fn by_counting(tensors: &TensorNames, size: u64) -> Kind {
    let found = first(&RULES.language_models, tensors);
    let marked = |marks: &'static [&str]| tensors.count(|name| marks.iter().any(|mark| name.contains(mark)));
    let (language, images) = (marked(&RULES.language_words), marked(&RULES.image_words));
    if language > images && (language > ENOUGH_MARKS || size > LARGE_BYTES) {
        return found.unwrap_or_else(|| kind(ModelType::Llm, "", "", ""));
    }
    if images > language && images > ENOUGH_MARKS {
        return image("stable-diffusion", "checkpoints");
    }
    found
        .filter(|found| RULES.certain_layouts.contains(&&*found.family))
        .unwrap_or_default()
}

/// Whether only an adapter has a tensor of this name.
fn is_adapted(name: &str) -> bool {
    let at_dot = |part: &&str| {
        let whole_word =
            |(at, _): (usize, &str)| name[..at].ends_with('.') && ends_word(&name[at + part.len()..]);
        name.match_indices(*part).any(whole_word)
    };
    let whole_word = |part: &&str| {
        name.match_indices(*part)
            .any(|(at, _)| ends_word(&name[at + part.len()..]))
    };
    let nested = ["lora.up.", "lora.down."];
    let after_mark = |part: &&str| {
        name.match_indices(*part)
            .any(|(at, _)| name[..at].ends_with(['.', '_']))
    };
    name.rsplit_once('.').is_some_and(|(_, last)| last == "alpha")
        || nested.iter().any(after_mark)
        || ADAPTED_PARTS.iter().any(at_dot)
        || ADAPTED_WEIGHTS.iter().any(whole_word)
}

/// Whether a name names a part of a language model's layer.
fn is_language_layer(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    parts.windows(3).any(|window| {
        let numbered = !window[1].is_empty() && window[1].bytes().all(|digit| digit.is_ascii_digit());
        let layer = |layer: &&str| window[2].strip_prefix(*layer).is_some_and(ends_word);
        numbered && LANGUAGE_BLOCKS.contains(&window[0]) && LANGUAGE_LAYERS.iter().any(layer)
    })
}

/// Whether a word ends where `rest` begins.
fn ends_word(rest: &str) -> bool {
    !rest.starts_with(|letter: char| letter == '_' || letter.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(names: &[&str]) -> Kind {
        kind_of_tensors(
            &TensorNames::new(names.iter().map(ToString::to_string).collect(), HashMap::new()),
            0,
        )
    }

    #[test]
    fn adapters_are_told_by_their_names() {
        assert!(
            is_adapted("lora_unet_x.lora_down.weight") && is_adapted("a.lokr_w1_a") && is_adapted("x.alpha")
        );
        assert!(
            is_adapted("x_lora.up.weight") && !is_adapted("x.lora_downs.weight") && !is_adapted("a.alphabet")
        );
        let found = kind_of(&[
            "model.layers.0.self_attn.q_proj.lora_A.weight",
            "model.layers.0.mlp.up.lora_B.weight",
        ]);
        assert_eq!((found.model_type, &*found.subtype), (ModelType::Llm, "loras"));
    }

    #[test]
    fn layouts_are_told_by_fragments() {
        let found = kind_of(&[
            "double_blocks.0.img_attn.qkv.weight",
            "single_blocks.0.linear1.weight",
        ]);
        assert_eq!((&*found.family, &*found.subtype), ("flux", "diffusion_models"));
        assert!(!kind_of(&["something.else"]).is_known());
        let unknown = kind_of(&["model.diffusion_model.something.else"]);
        assert_eq!((unknown.model_type, &*unknown.family), (ModelType::Diffusion, ""));
    }
}
