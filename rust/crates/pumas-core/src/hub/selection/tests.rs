use super::*;

fn model(paths: &[&str]) -> HubModel {
    let files = paths.iter().map(|path| HubFile {
        path: (*path).to_owned(),
        size: 10,
        git_oid: "a".repeat(40),
        sha256: None,
    });
    let empty = serde_json::Map::new();
    HubModel {
        said: crate::hub::model::Described {
            repo_id: "acme/Lumen".to_owned(),
            ..Default::default()
        },
        files: files.collect(),
        unusable: Vec::new(),
        private: false,
        card: empty.clone(),
        config: empty.clone(),
        gguf: empty.clone(),
        parameters: empty,
    }
}

fn chosen(paths: &[&str], quant: Option<&str>, names: &[&str]) -> Vec<String> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let choice = choose(&model(paths), quant, &names);
    choice.map_or_else(
        |error| vec![error.to_string()],
        |choice| choice.files.into_iter().map(|file| file.path).collect(),
    )
}

#[test]
fn no_weights_are_taken_twice() {
    let all = [
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "model.fp16.safetensors",
        "tf_model.h5",
        "README.md",
    ];
    assert_eq!(chosen(&all, None, &[]), ["config.json", "model.safetensors"]);
}

#[test]
fn quantisations_and_names_choose() {
    let all = [
        "m-Q4_K_M.gguf",
        "m-Q8_0-00001-of-00002.gguf",
        "m-Q8_0-00002-of-00002.gguf",
        "mmproj-f16.gguf",
    ];
    assert_eq!(chosen(&all, Some("q4-k-m"), &[]), ["m-Q4_K_M.gguf"]);
    assert_eq!(chosen(&all, None, &["*00001*"]), all[1..3]);
    let missing = chosen(&all, Some("q2"), &[]);
    assert_eq!(
        missing,
        ["quant: 'q2' is not among what the repository holds; there is q4_k_m, q8_0"]
    );
    let kinds: Vec<&str> = options(&model(&all))
        .unwrap()
        .into_iter()
        .map(|option| option.kind)
        .collect();
    assert_eq!(kinds, ["quant", "quant", "all", "projector"]);
}

fn by_name(paths: &[&str]) -> Vec<Vec<String>> {
    let found = options(&model(paths)).unwrap().into_iter();
    found
        .filter(|option| option.kind == "file")
        .map(|option| option.files)
        .collect()
}

#[test]
fn models_that_no_quantisation_brings_alone_are_offered_by_name() {
    let shared = ["config.json", "L-Q4_0.gguf", "L-qat-Q4_0.gguf", "L-Q8_0.gguf"];
    assert_eq!(by_name(&shared), [["L-Q4_0.gguf"], ["L-qat-Q4_0.gguf"]]);
    let parts = ["Low/L-Q8_0-00001-of-00002.gguf", "Low/L-Q8_0-00002-of-00002.gguf"];
    let halves = by_name(&["High/L-Q8_0.gguf", parts[0], parts[1]]);
    assert_eq!(halves, [vec!["High/L-Q8_0.gguf"], parts.to_vec()]);
    assert_eq!(
        by_name(&["ggml-base.bin", "ggml-l-q5_0.bin"]),
        [["ggml-base.bin"]]
    );
    assert!(by_name(&["config.json", "a.safetensors", "b.safetensors"]).is_empty());
    assert!(by_name(&["a.safetensors", "README.md"]).is_empty());
}

#[test]
fn a_small_mix_and_its_larger_brother_are_told_apart() {
    let all = ["L-IQ2_KL.gguf", "L-smol-IQ1_KT.gguf", "L-smol-IQ2_KL.gguf"];
    assert_eq!(chosen(&all, Some("IQ2_KL"), &[]), [all[0]]);
    assert_eq!(chosen(&all, Some("smol-IQ2_KL"), &[]), [all[2]]);
    assert_eq!(chosen(&all, Some("IQ1_KT"), &[]), [all[1]]);
}

#[test]
fn a_pipeline_is_taken_whole() {
    let all = [
        "model_index.json",
        "unet/m.safetensors",
        "unet/m.fp16.safetensors",
        "vae/m.safetensors",
        "sd.safetensors",
    ];
    assert_eq!(
        chosen(&all, None, &[]),
        ["model_index.json", "unet/m.safetensors", "vae/m.safetensors"]
    );
    assert_eq!(
        chosen(&all, Some("fp16"), &[]),
        ["model_index.json", "unet/m.fp16.safetensors", "vae/m.safetensors"]
    );
}
