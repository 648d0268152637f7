use serde_json::json;

use super::*;
use crate::library::companions::NoCompanions;
use crate::library::testing::Library;

fn trash(place: &Library) -> Trash {
    let root = place.root().join(".trash");
    Trash::new(
        place.root().into(),
        root,
        place.lock(),
        place.index.clone(),
        Arc::new(NoCompanions),
    )
}

fn full() -> Library {
    let place = Library::new();
    place.model("llm/a/A", &json!({"official_name": "A model"}));
    place.file("llm/a/A/a.gguf", "12345");
    place.model("llm/a/A/inner/B", &json!({}));
    place
}

#[test]
fn a_deleted_model_comes_back_as_it_was() {
    let place = full();
    let trash = trash(&place);
    let entry = trash.delete("llm/a/A", false).unwrap();
    assert_eq!(entry.model_ids, ["llm/a/A", "llm/a/A/inner/B"]);
    assert_eq!((entry.official_name.as_str(), entry.files), ("A model", 1));
    assert!(!place.root().join("llm/a").exists() && place.root().join("llm").exists());
    assert_eq!(trash.list().unwrap(), std::slice::from_ref(&entry));
    assert_eq!(trash.restore(&entry.trash_id, false).unwrap(), entry);
    assert_eq!(fs::read(place.root().join("llm/a/A/a.gguf")).unwrap(), b"12345");
    assert!(trash.list().unwrap().is_empty());
    assert_eq!(
        place.index.told(),
        [
            "remove llm/a/A llm/a/A/inner/B",
            "refresh llm/a/A llm/a/A/inner/B"
        ]
    );
}

#[test]
fn a_dry_run_changes_nothing() {
    let place = full();
    let trash = trash(&place);
    assert_eq!(trash.delete("llm/a/A", true).unwrap().files, 1);
    assert!(place.root().join("llm/a/A/a.gguf").exists() && !place.root().join(".trash").exists());
    let entry = trash.delete("llm/a/A", false).unwrap();
    trash.restore(&entry.trash_id, true).unwrap();
    assert_eq!(trash.empty(None, None, true).unwrap().len(), 1);
    assert_eq!(trash.list().unwrap().len(), 1);
}

#[test]
fn a_name_that_is_taken_by_now_is_not_replaced() {
    let place = full();
    let trash = trash(&place);
    let entry = trash.delete("llm/a/A", false).unwrap();
    place.model("llm/a/A", &json!({}));
    for dry_run in [true, false] {
        assert!(matches!(
            trash.restore(&entry.trash_id, dry_run),
            Err(Error::AlreadyExists(_))
        ));
    }
    assert_eq!(trash.list().unwrap().len(), 1);
}

#[test]
fn what_is_not_there_cannot_be_named() {
    let place = full();
    let trash = trash(&place);
    assert!(matches!(
        trash.delete("llm/a/None", false),
        Err(Error::ModelNotFound(_))
    ));
    for id in ["", "../x", "none", "a/b", ".emptying"] {
        assert!(
            matches!(trash.restore(id, false), Err(Error::TrashEntryNotFound { .. })),
            "{id:?}"
        );
        assert!(trash.empty(Some(&[id.to_owned()]), None, false).is_err());
    }
}

#[test]
fn emptying_takes_what_is_old_and_has_a_date() {
    let place = full();
    let trash = trash(&place);
    let entry = trash.delete("llm/a/A", false).unwrap();
    assert!(trash.empty(None, Some(1.0), false).unwrap().is_empty());
    let file = place.root().join(".trash").join(&entry.trash_id).join(ENTRY);
    fs::write(&file, "{ damaged").unwrap();
    assert!(trash.empty(None, Some(0.0), false).unwrap().is_empty());
    assert_eq!(
        trash.list().unwrap()[0].model_id,
        format!("unknown/restored/{}", entry.trash_id)
    );
    assert_eq!(
        trash.empty(Some(&[entry.trash_id]), None, false).unwrap().len(),
        1
    );
    assert!(trash.list().unwrap().is_empty());
}

#[test]
fn half_done_work_is_finished_after_a_kill() {
    let place = full();
    let trash = trash(&place);
    place.file(".trash/20300101T000000-00000000/entry.json", "{}");
    place.file(".trash/20300101T000000-00000001.emptying/model/x", "x");
    place.file(".trash/not ours/x", "x");
    trash.recover().unwrap();
    assert_eq!(trash.names().unwrap(), ["not ours"]);
    assert!(place.root().join("llm/a/A/a.gguf").exists());
}

#[test]
fn an_entry_that_names_a_place_outside_is_not_followed() {
    let place = Library::new();
    for (number, id) in ["../../etc", "/etc", ".staging/x", ""].into_iter().enumerate() {
        let entry = json!({"model_id": id, "model_ids": [id], "official_name": "x", "deleted_at": ""});
        place.file(&format!(".trash/t{number}/entry.json"), entry.to_string());
        place.file(&format!(".trash/t{number}/model/metadata.json"), "{}");
    }
    for entry in trash(&place).list().unwrap() {
        assert!(entry.model_id.starts_with("unknown/restored/t"));
    }
}
