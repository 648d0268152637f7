import view from "../view.module.css";

/** The card as its author wrote it, without the block of settings at its head. Never rendered as HTML. */
export default function ModelCard({ text }: { text: string }) {
  return <pre className={view.text}>{text.replace(/^---\n[\s\S]*?\n---\n/, "").trim()}</pre>;
}
