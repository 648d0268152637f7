import { CircleAlert } from "lucide-react";
import { Component, type ReactNode } from "react";

import { Button } from "../parts/Button";
import { Empty } from "../parts/Empty";
import { useTexts } from "../texts/texts";

/** A view that breaks takes only itself along; so does one whose code is gone because the page was built anew. */
export class ViewBoundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error): { error: Error } {
    return { error };
  }

  override render(): ReactNode {
    return this.state.error === null ? this.props.children : <Broken error={this.state.error} />;
  }
}

function Broken({ error }: { error: Error }) {
  const { t } = useTexts();
  return (
    <div role="alert">
      <Empty icon={<CircleAlert aria-hidden />} title={t("common.broken")} hint={error.message}>
        <Button look="primary" onClick={() => location.reload()}>
          {t("common.reload")}
        </Button>
      </Empty>
    </div>
  );
}
