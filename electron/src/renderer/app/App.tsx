export function App() {
  return <main>Pumas</main>;
}
