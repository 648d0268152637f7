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
