// What the shell itself says: menus, notifications, dialogs. The page has its own in src/renderer/texts.

const en = {
  open: "Open Pumas",
  quit: "Quit",
  idle: "No downloads",
  downloading: (count: number, percent: number) => `${count} downloading, ${percent} %`,
  downloadDone: "Download complete",
  downloadFailed: "Download failed",
  installDone: "Installation complete",
  installFailed: "Installation failed",
  sidecarFailed: "Pumas could not start its service",
  importFiles: "Import models",
  importFolder: "Import a folder",
  models: "Model files",
  allFiles: "All files",
};

export type Texts = typeof en;

const de: Texts = {
  open: "Pumas öffnen",
  quit: "Beenden",
  idle: "Keine Downloads",
  downloading: (count, percent) => `${count} im Download, ${percent} %`,
  downloadDone: "Download fertig",
  downloadFailed: "Download fehlgeschlagen",
  installDone: "Installation fertig",
  installFailed: "Installation fehlgeschlagen",
  sidecarFailed: "Pumas konnte seinen Dienst nicht starten",
  importFiles: "Modelle importieren",
  importFolder: "Ordner importieren",
  models: "Modelldateien",
  allFiles: "Alle Dateien",
};

export function textsFor(locale: string): Texts {
  return locale.toLowerCase().startsWith("de") ? de : en;
}
