import type { Sentence } from "./heard";

// The more special ones first: the first that fits is taken.
export const HEARD_DE: readonly Sentence[] = [
  // The page's own, and the way to the sidecar.
  [/^The sidecar does not answer\.$/, "Der Dienst antwortet nicht."],
  [/^This page has no valid token\.$/, "Diese Seite hat kein gültiges Token."],
  [/^Cancelled\.$/, "Abgebrochen."],
  [/^Too many calls of (\S+); try again in (\d+) s\.$/, "Zu viele Aufrufe von $1; in $2 s noch einmal versuchen."],
  [/^Invalid params$/, "Ungültige Angaben"],
  // Models.
  [
    /^These bytes are already in the library as (.+); pass allow_duplicate to import again\.$/,
    "Diese Daten sind schon in der Bibliothek: $1.",
  ],
  [/^No model ['"](.+)['"] in the library\.$/, "In der Bibliothek ist kein Modell „$1“."],
  [/^No entry ['"](.+)['"] in the trash; \S+ shows what can be restored\.$/, "Im Papierkorb ist kein Eintrag „$1“."],
  [
    /^(.+) is in the library again; delete or move that first\.$/,
    "$1 ist wieder in der Bibliothek; bitte zuerst das dort löschen oder verschieben.",
  ],
  [/^(.+) already exists in (.+)\.$/, "$1 gibt es in $2 schon."],
  [
    /^(.+) holds (\d+) models \((.+)\); import each by its own path\.$/,
    "$1 enthält $2 Modelle ($3); jedes einzeln importieren.",
  ],
  [
    /^(.+) can run code when an app loads it \(pickle\); pass security_acknowledged to \w+ it all the same\.$/,
    "$1 kann Code ausführen, wenn eine App es lädt (Pickle).",
  ],
  // What was noticed in a file.
  [/^A pickle can run code when an app loads it\.$/, "Ein Pickle kann Code ausführen, wenn eine App es lädt."],
  [/^The folder also holds pickle files: (.+)\.$/, "Im Ordner sind auch Pickle-Dateien: $1."],
  [/^The name says (.+), the content says (.+)\.$/, "Der Name sagt $1, der Inhalt sagt $2."],
  [
    /^The family (.+) is taken from the name: the content fits several\.$/,
    "Die Familie $1 stammt aus dem Namen: Der Inhalt passt zu mehreren.",
  ],
  [/^Made by (.+)\.$/, "Erzeugt von $1."],
  [
    /^GGUF version 1; most programs of today refuse it\.$/,
    "GGUF in Version 1; die meisten heutigen Programme lehnen es ab.",
  ],
  [
    /^A format older than GGUF; most programs of today refuse it\.$/,
    "Ein Format von vor GGUF; die meisten heutigen Programme lehnen es ab.",
  ],
  [/^Weights are packed, so they were not counted\.$/, "Die Gewichte sind gepackt und wurden nicht gezählt."],
  [
    /^(\d+) bytes follow the last tensor; some programs will refuse the file\.$/,
    "Nach dem letzten Tensor folgen $1 Bytes; manche Programme lehnen die Datei ab.",
  ],
  [
    /^A saved session of a language model, not a model\.$/,
    "Eine gespeicherte Sitzung eines Sprachmodells, kein Modell.",
  ],
  [/^None of the files is a model file that we know\.$/, "Keine der Dateien ist eine bekannte Modelldatei."],
  [
    /^is not a model file that we know; nothing was imported\.$/,
    "Keine bekannte Modelldatei; nichts wurde importiert.",
  ],
  [
    /^its header claims (\d+) tensors, more than the file has room for; nothing was imported\.$/,
    "Die Kopfdaten nennen $1 Tensoren, mehr als in die Datei passen; nichts wurde importiert.",
  ],
  [
    /^(.+) is named like a download that is not finished; rename it if it is whole; nothing was imported\.$/,
    "$1 heißt wie ein unfertiger Download; ist die Datei ganz, bitte umbenennen. Nichts wurde importiert.",
  ],
  [/^(.+) is still being downloaded: (.+) is beside it\.$/, "$1 wird noch heruntergeladen: Daneben liegt $2."],
  [
    /^(.+) is where Ollama keeps its models; scan_model_stores lists them, and adopt_models takes them in without a copy; nothing was imported\.$/,
    "In $1 hat Ollama seine Modelle; „Übernehmen“ nimmt sie ohne Kopie auf. Nichts wurde importiert.",
  ],
  [
    /^is a web page, not a model; download the model again; nothing was imported\.$/,
    "Eine Webseite, kein Modell; bitte neu herunterladen. Nichts wurde importiert.",
  ],
  [
    /^is a Git LFS pointer, not the model itself; 'git lfs pull' in its folder fetches that; nothing was imported\.$/,
    "Ein Verweis von Git LFS, nicht das Modell selbst; „git lfs pull“ in seinem Ordner holt es. Nichts wurde importiert.",
  ],
  [
    /^(\d+) of (\d+) parts are missing \(number ([\d, ]+)\); nothing was imported\.$/,
    "$1 von $2 Teilen fehlen (Nummer $3); nichts wurde importiert.",
  ],
  [
    /^(\d+) of (\d+) parts are missing \(number ([\d, ]+) and (\d+) more\); nothing was imported\.$/,
    "$1 von $2 Teilen fehlen (Nummer $3 und $4 weitere); nichts wurde importiert.",
  ],
  [/^is empty; nothing was imported\.$/, "Die Datei ist leer; nichts wurde importiert."],
  [
    /^is a ZIP archive, but not one that torch writes; nothing was imported\.$/,
    "Ein ZIP-Archiv, aber keines, das torch schreibt; nichts wurde importiert.",
  ],
  [
    /^is cut short: (\d+) bytes of .+ are missing; nothing was imported\.$/,
    "Die Datei ist abgeschnitten: $1 Bytes fehlen. Bitte neu herunterladen; nichts wurde importiert.",
  ],
  [
    /^is cut short: .+; nothing was imported\.$/,
    "Die Datei ist abgeschnitten. Bitte neu herunterladen; nichts wurde importiert.",
  ],
  [
    /^is named \.onnx but is not a whole ONNX model; nothing was imported\.$/,
    "Heißt .onnx, ist aber kein ganzes ONNX-Modell; nichts wurde importiert.",
  ],
  [
    /^(?:has a damaged ZIP directory|is a ZIP file without directory: damaged or cut short); nothing was imported\.$/,
    "Das Verzeichnis des ZIP-Archivs ist beschädigt oder abgeschnitten; nichts wurde importiert.",
  ],
  [
    /^has GGUF version (\d+); versions 1 to 3 are known; nothing was imported\.$/,
    "GGUF in der Version $1; bekannt sind 1 bis 3. Nichts wurde importiert.",
  ],
  [
    /^(.+) holds no model file that we know(?: in its first \d+ levels)?; nothing was imported\.$/,
    "In $1 ist keine bekannte Modelldatei; nichts wurde importiert.",
  ],
  [
    /^(?:its|has|holds|nests|is not a|became|an?|it|there is|__metadata__) .+; nothing was imported\.$/,
    "Die Kopfdaten der Datei sind beschädigt; nichts wurde importiert.",
  ],
  [/^no such file or directory$/i, "Datei oder Ordner nicht gefunden"],
  [/^(\d+) of (\d+) parts are missing(\.?)$/, "$1 von $2 Teilen fehlen$3"],
  [/^There is not enough disk space\.$/, "Auf dem Laufwerk ist nicht genug Platz."],
  [
    /^Not enough disk space: ([\d,]+) bytes needed, ([\d,]+) free\. Free some and try again\.$/,
    "Nicht genug Platz: $1 Bytes nötig, $2 frei.",
  ],
  [
    /^(.+) cannot be read \((.+)\) and has no usable backup; it was left as it is\.$/,
    "$1 ist nicht lesbar ($2) und hat keine brauchbare Sicherung; die Datei blieb, wie sie ist.",
  ],
  [
    /^only GGUF and safetensors files describe themselves$/,
    "Nur GGUF- und Safetensors-Dateien beschreiben sich selbst",
  ],
  [
    /^it and its backup are not usable JSON; repair it or remove it\.$/,
    "Die Datei und ihre Sicherung sind kein brauchbares JSON; reparieren oder entfernen.",
  ],
  // What other programs keep.
  [/^No store holds ['"](.+)['"]; scan_model_stores shows what can be adopted\.$/, "Kein Speicherort enthält „$1“."],
  [/^['"](.+)['"] was not adopted; list_adoptions shows what was\.$/, "„$1“ wurde nicht übernommen."],
  [
    /^(.+) holds the last copy of (.+): the program that it came from removed or replaced its own\. Delete the model instead; it then goes into the trash\.$/,
    "$1 enthält die letzte Kopie von $2: Das andere Programm hat seine entfernt oder ersetzt. Stattdessen das Modell löschen; es kommt dann in den Papierkorb.",
  ],
  [
    /^The files stay in the (\S+) store: the model is missing once they are removed there\.$/,
    "Die Dateien bleiben am Speicherort ($1): Werden sie dort entfernt, fehlt das Modell.",
  ],
  [/^The manifest is damaged or too large\.$/, "Das Manifest ist beschädigt oder zu groß."],
  [/^It leads to a file that is not there\.$/, "Es führt zu einer Datei, die nicht da ist."],
  [/^None of its layers is a model file that is here\.$/, "Keine seiner Schichten ist eine Modelldatei, die da ist."],
  [/^(.+) is no folder that can be looked into$/, "$1 ist kein Ordner, in den geschaut werden kann"],
  // The hub and the network.
  [
    /^Offline mode is on, so (\S+) was not asked; set_network_settings turns it off\.$/,
    "Der Offline-Modus ist an, also wurde $1 nicht gefragt.",
  ],
  [
    /^(\S+) allows no more requests now; try again in (\d+) s\.$/,
    "$1 erlaubt gerade keine Anfragen mehr; in $2 s noch einmal versuchen.",
  ],
  [
    /^(\S+) failed repeatedly and is left alone; try again in (\d+) s\.$/,
    "$1 ist mehrmals ausgefallen und hat Ruhe; in $2 s noch einmal versuchen.",
  ],
  [/^(\S+) has a problem of its own \(HTTP (\d+)\)\.$/, "$1 hat selbst ein Problem (HTTP $2)."],
  [/^(\S+) (?:refused the request|does not allow this) \(HTTP (\d+)\)\.$/, "$1 erlaubt das nicht (HTTP $2)."],
  [
    /^(\S+) wants a token, or does not accept the one it got \(HTTP (\d+)\)\.$/,
    "$1 verlangt ein Token oder nimmt dieses nicht an (HTTP $2).",
  ],
  [
    /^(\S+) sent something unusable: it refuses the signed address of (.+) \(HTTP (\d+)\)\.$/,
    "$1 gibt $2 unter der Adresse nicht heraus, die der Hub genannt hat (HTTP $3).",
  ],
  [
    /^(\S+) sent something unusable: (.+) is shorter there than the hub lists\.$/,
    "Bei $1 ist $2 kürzer, als der Hub sagt.",
  ],
  [
    /^(\S+) sent something unusable: (.+) has ([\d,]+) bytes there, and ([\d,]+) as the hub lists it\.$/,
    "Bei $1 hat $2 $3 Bytes, der Hub nennt $4.",
  ],
  [
    /^(\S+) sent something unusable: more than the ([\d,]+) bytes of (.+)\.$/,
    "$1 schickt mehr als die $2 Bytes von $3.",
  ],
  [/^(\S+) sent something unusable: (.+) ends too early\.$/, "Bei $1 endet $2 zu früh."],
  [
    /^(\S+) sent something unusable: (.+) comes with less than (\d+) bytes per second\.$/,
    "$1 schickt $2 mit weniger als $3 Bytes in der Sekunde.",
  ],
  [/^(\S+) sent something unusable: it redirects too often\.$/, "$1 leitet zu oft weiter."],
  [/^(\S+) sent something unusable: (.+)\.$/, "$1 hat etwas Unbrauchbares geschickt ($2)."],
  [/^(\S+) cannot be reached: the proxy .+\.$/, "$1 ist über den Proxy nicht erreichbar."],
  [/^(\S+) shows a certificate that is not trusted\.$/, "$1 zeigt ein Zertifikat, dem nicht vertraut wird."],
  [
    /^The hub has no model repository of that name, or a private one: (.+)\.$/,
    "Auf dem Hub gibt es kein Modell dieses Namens, oder es ist privat: $1.",
  ],
  [/^(.+) has no branch, tag or commit ['"](.+)['"] on the hub\.$/, "$1 hat auf dem Hub keinen Stand „$2“."],
  [
    /^(.+) is gated: accept its terms at (\S+), and let the hub know you by .+$/,
    "$1 hat Bedingungen: Auf $2 zustimmen, dann HF_TOKEN setzen oder mit „hf auth login“ anmelden.",
  ],
  [
    /^The hub does not accept the token from HF_TOKEN or the token file; .+$/,
    "Der Hub nimmt das Token aus HF_TOKEN oder der Token-Datei nicht an.",
  ],
  [/^['"](.+)['"] is not among what the repository holds; there is (.+)$/, "„$1“ ist nicht dabei; es gibt $2"],
  [
    /^(.+) did not arrive as it is published: (.+)\. Try again later\.$/,
    "$1 kam nicht so an, wie es veröffentlicht ist. Später noch einmal versuchen.",
  ],
  [/^must be a task such as text-generation$/, "muss eine Aufgabe sein wie text-generation"],
  // Downloads and jobs.
  [/^Outside the hours in which downloads run\.$/, "Außerhalb der Zeiten, in denen heruntergeladen wird."],
  [/^Copying (.+) from the library\.$/, "$1 wird aus der Bibliothek kopiert."],
  [/^No (?:job|download|run) ['"](.+)['"]; \S+ shows .+\.$/, "„$1“ ist nicht bekannt."],
  [/^Job (\S+) is already completed\.$/, "Die Arbeit $1 ist schon fertig."],
  [/^Job (\S+) is completed; only a .+ job can be (?:paused|resumed)\.$/, "Die Arbeit $1 ist fertig."],
  // Apps.
  [/^There is no app ['"](.+)['"]; list_apps shows the known ones\.$/, "Eine App „$1“ gibt es nicht."],
  [
    /^There is no app ['"](.+)['"]; its description is not used: (.+)$/,
    "Eine App „$1“ gibt es nicht; ihre Beschreibung wird nicht verwendet: $2",
  ],
  [/^This description is not used: (.+)$/, "Diese Beschreibung wird nicht benutzt: $1"],
  [/^(.+) is there already; pass reinstall to build it anew\.$/, "$1 ist schon da."],
  [
    /^(.+) is there already and is no version of ours; move it away, then install\.$/,
    "$1 ist schon da und nicht von hier; erst beiseite legen.",
  ],
  [/^(.+) ['"](.+)['"] is not installed; get_installed_versions shows what is\.$/, "$1 $2 ist nicht installiert."],
  [
    /^(.+) ['"](.+)['"] is not whole: it has no (.+); \S+ builds it anew\.$/,
    "$1 $2 ist nicht vollständig ($3 fehlt); noch einmal installieren.",
  ],
  [
    /^(.+) ['"](.+)['"] is listed, but its folder (.+) is not there; bring it back, .+$/,
    "Der Ordner $3 von $1 $2 fehlt; zurückholen oder noch einmal installieren.",
  ],
  [
    /^(.+) ['"](.+)['"] (?:is not among the releases that are known|is not known yet); .+$/,
    "$1 $2 ist nicht unter den bekannten Versionen.",
  ],
  [/^(.+) ['"]releases['"] are not listed by GitHub; .+$/, "GitHub nennt keine Versionen von $1."],
  [/^(.+) runs already; stop it first\.$/, "$1 läuft schon."],
  [/^(.+) is active, and no other version is installed; .+$/, "$1 ist aktiv, und eine andere Version gibt es nicht."],
  [/^(.+) is active; switch to another version first\.$/, "$1 ist aktiv; zuerst eine andere Version aktiv machen."],
  [/^(.+) is installed; remove it first\.$/, "$1 ist installiert; zuerst entfernen."],
  [/^(.+) has no earlier version to go back to\.$/, "Von $1 gibt es keine frühere Version."],
  [/^No version of (.+) is installed; install_version installs one\.$/, "Keine Version von $1 ist installiert."],
  [
    /^(.+) does not run, or was not started here; list_processes shows what was\.$/,
    "$1 läuft nicht oder wurde nicht von hier gestartet.",
  ],
  [
    /^(.+) lacks (.+); install its dependencies first \(install_version_dependencies\)\.$/,
    "$1 fehlen $2; zuerst seine Pakete installieren.",
  ],
  [
    /^the program is not in the version's folder; install it again$/,
    "Das Programm ist nicht im Ordner der Version; noch einmal installieren",
  ],
  [/^it was not started yet, so there is no log$/, "noch nicht gestartet, also gibt es kein Protokoll"],
  [/^Nothing is being installed\.$/, "Gerade wird nichts installiert."],
  [/^The archive was refused: (.+)\.$/, "Das Archiv wurde abgelehnt ($1)."],
  // Links.
  [
    /^The sidecar runs in a sandbox; apps outside of it may see these paths differently\.$/,
    "Der Dienst läuft in einer Sandbox; Apps außerhalb sehen diese Pfade vielleicht anders.",
  ],
  [
    /^Something has changed since this plan was made; look at the new one and apply that\.$/,
    "Seit diesem Plan hat sich etwas geändert.",
  ],
  [/^(.+) takes no models by links\.$/, "$1 nimmt keine Modelle über Links."],
  [/^There are no mapping rules for (.+)\.$/, "Für $1 gibt es keine Regeln."],
  [/^(.+) is no folder, so nothing is linked there\.$/, "$1 ist kein Ordner, also wird dort nichts verlinkt."],
  [
    /^(.+) is a link that leads out of the app, so nothing is linked there\.$/,
    "$1 ist ein Link, der aus der App hinausführt, also wird dort nichts verlinkt.",
  ],
  [
    /^The models folder of (\S+) is a link to (.+), so nothing is linked there; .+$/s,
    "Der Modellordner von $1 ist ein Link nach $2, also wird dort nichts verlinkt.",
  ],
  [
    /^The models folder is a link to (.+); it is moved aside for a real folder\. The app .+$/s,
    "Der Link nach $1 wird beiseitegelegt. Was dort liegt, findet die App wieder, sobald es importiert ist.",
  ],
  [/^Non-symlink file exists$/, "Dort liegt schon eine Datei"],
  [/^Non-symlink folder$/, "Dort liegt schon ein Ordner"],
  // What apps are.
  [
    /^Node-based image, video and audio generation with diffusion models\.$/,
    "Bilder, Videos und Töne mit Diffusionsmodellen, in Knoten zusammengesetzt.",
  ],
  [
    /^Serves GGUF language models over HTTP, with a page to chat\.$/,
    "Stellt GGUF-Sprachmodelle über HTTP bereit, mit einer Seite zum Chatten.",
  ],
  [/^Runs language models and serves them over HTTP\.$/, "Führt Sprachmodelle aus und stellt sie über HTTP bereit."],
  // Updates and settings.
  [
    /^The launcher is no git checkout; update it the way it was installed\.$/,
    "Pumas ist keine Git-Arbeitskopie; so aktualisieren, wie es installiert wurde.",
  ],
  [
    /^The launcher's checkout has no branch, or was not cloned from an https address\.$/,
    "Die Git-Arbeitskopie von Pumas ist auf keinem Zweig oder wurde nicht über https geklont.",
  ],
  [
    /^The launcher was not cloned from a repository owner\/name on GitHub\.$/,
    "Pumas wurde nicht aus einem Repository besitzer/name auf GitHub geklont.",
  ],
  [
    /^Files of the launcher were changed here; commit or undo that, then update\.$/,
    "Dateien von Pumas wurden hier geändert; das committen oder zurücknehmen, dann aktualisieren.",
  ],
  [/^The new version has no (.+); nothing was changed\.$/, "In der neuen Version fehlt $1; nichts wurde geändert."],
  [/^The new version does not work here: (.+)$/, "Die neue Version läuft hier nicht: $1"],
  [/^Updated; restart the launcher to use it\.$/, "Aktualisiert; nach einem Neustart von Pumas wirksam."],
  [/^The update goes on; \S+ tells how far it is\.$/, "Die Aktualisierung läuft noch."],
  [/^The launcher is up to date\.$/, "Pumas ist aktuell."],
  [/^The launcher is starting again\.$/, "Pumas startet neu."],
  [/^it is too long or has characters that no URL has$/, "zu lang, oder mit Zeichen, die in keiner Adresse stehen"],
  [/^it cannot be read$/, "nicht als Adresse zu lesen"],
  [/^it must not hold a user name or password$/, "darf keinen Benutzernamen und kein Passwort enthalten"],
  [/^port 0 is none$/, "einen Port 0 gibt es nicht"],
  [/^its host is not an address$/, "der Rechner darin ist keine Adresse"],
  [/^it has no usable host$/, "es fehlt ein brauchbarer Rechnername"],
  [/^a base URL has no query and no fragment$/, "darf nichts nach ? oder # haben"],
  [/^only http and https are possible$/, "nur http und https sind möglich"],
  [/^must be an absolute path$/, "muss ein vollständiger Pfad sein"],
  [/^must be an http or https address with a host$/, "muss eine Adresse mit http oder https sein"],
  [/^must be at least (\d+); pause downloads to stop them$/, "mindestens $1; zum Anhalten pausieren"],
  [/^must be a time of day such as (.+)$/, "muss eine Uhrzeit sein wie $1"],
  [/^must be a version specifier such as (.+)$/, "muss eine Versionsangabe sein wie $1"],
  [/^must have at most (\d+) characters$/, "höchstens $1 Zeichen"],
  [/^must not be empty$/, "darf nicht leer sein"],
  [/^there is nothing of that name$/, "nichts heißt so"],
  [/^is required$/, "fehlt"],
];
