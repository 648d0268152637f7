import { CircleAlert } from "lucide-react";
import { Component, useEffect, useRef, type ReactNode } from "react";

import { useConnection } from "../client/hooks";
import { Button } from "../parts/Button";
import { Empty } from "../parts/Empty";
import { useTexts } from "../texts/texts";

interface Props {
  /** Load the page anew; other than the browser's own in tests. */
  reload?: () => void;
  children: ReactNode;
}

/** A view that breaks takes only itself along; so does one whose code is gone because the page was built anew. */
export class ViewBoundary extends Component<Props, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error): { error: Error } {
    return { error };
  }

  override render(): ReactNode {
    const { children, reload = () => location.reload() } = this.props;
    return this.state.error === null ? children : <Broken error={this.state.error} reload={reload} />;
  }
}

function Broken({ error, reload }: { error: Error; reload: () => void }) {
  const { t } = useTexts();
  const connection = useConnection();
  const wasAway = useRef(false);
  // Code that was wanted while the sidecar was away is asked for again only by a new page.
  useEffect(() => {
    if (connection === "unreachable") wasAway.current = true;
    else if (connection === "open" && wasAway.current) reload();
  }, [connection, reload]);
  return (
    <div role="alert">
      <Empty icon={<CircleAlert aria-hidden />} title={t("common.broken")} hint={error.message}>
        <Button look="primary" onClick={reload}>
          {t("common.reload")}
        </Button>
      </Empty>
    </div>
  );
}
