import {
  DndContext,
  KeyboardSensor,
  PointerSensor,
  closestCenter,
  useSensor,
  useSensors,
  type DragEndEvent,
} from "@dnd-kit/core";
import {
  SortableContext,
  arrayMove,
  sortableKeyboardCoordinates,
  useSortable,
  verticalListSortingStrategy,
} from "@dnd-kit/sortable";
import { GripVertical } from "lucide-react";
import { useState } from "react";

import type { DownloadStatus } from "@contract";
import { useChange } from "../../client/hooks";
import parts from "../../parts/parts.module.css";
import { useAct } from "../../parts/useAct";
import { useTexts } from "../../texts/texts";
import { DownloadCard } from "./DownloadCard";

/** Unfinished downloads in their order; dragging, or the keyboard on the handle, changes it. */
export function Queue({ downloads }: { downloads: readonly DownloadStatus[] }) {
  const { t } = useTexts();
  const act = useAct();
  const reorder = useChange("reorder_model_downloads");
  const known = downloads.map((one) => one.download_id);
  const [order, setOrder] = useState<{ of: string; ids: readonly string[] } | null>(null);
  const sensors = useSensors(
    useSensor(PointerSensor, { activationConstraint: { distance: 4 } }),
    useSensor(KeyboardSensor, { coordinateGetter: sortableKeyboardCoordinates }),
  );
  const key = known.join();
  // A wish holds until the sidecar says what the order is now, and never again.
  if (order !== null && order.of !== key) setOrder(null);
  const ids = order?.of === key ? order.ids : known;
  const byId = new Map(downloads.map((one) => [one.download_id, one]));
  const name = (id: string | number) => byId.get(String(id))?.title ?? "";
  const place = (id: string | number) => ids.indexOf(String(id)) + 1;
  const end = ({ active, over }: DragEndEvent) => {
    if (over === null || active.id === over.id) return;
    const next = arrayMove([...ids], ids.indexOf(String(active.id)), ids.indexOf(String(over.id)));
    setOrder({ of: key, ids: next });
    act(async () => {
      try {
        await reorder.mutateAsync({ download_ids: next });
      } catch (error) {
        setOrder(null);
        throw error;
      }
    });
  };
  return (
    <DndContext
      sensors={sensors}
      collisionDetection={closestCenter}
      onDragEnd={end}
      accessibility={{
        screenReaderInstructions: { draggable: t("downloads.drag.how") },
        announcements: {
          onDragStart: ({ active }) => name(active.id),
          onDragOver: ({ active, over }) =>
            over ? t("downloads.moved", { name: name(active.id), place: place(over.id) }) : undefined,
          onDragEnd: ({ active, over }) =>
            over ? t("downloads.moved", { name: name(active.id), place: place(over.id) }) : undefined,
          onDragCancel: () => undefined,
        },
      }}
    >
      <SortableContext items={[...ids]} strategy={verticalListSortingStrategy}>
        <ol className={`${parts.list} ${parts.form}`}>
          {ids.map((id) => {
            const download = byId.get(id);
            return download && <QueueItem key={id} download={download} />;
          })}
        </ol>
      </SortableContext>
    </DndContext>
  );
}

function QueueItem({ download }: { download: DownloadStatus }) {
  const { t } = useTexts();
  const { setNodeRef, setActivatorNodeRef, attributes, listeners, transform, transition, isDragging } = useSortable({
    id: download.download_id,
  });
  return (
    <li
      ref={setNodeRef}
      style={{
        transform: transform ? `translate3d(0, ${transform.y}px, 0)` : undefined,
        transition,
        zIndex: isDragging ? 1 : undefined,
        position: "relative",
      }}
    >
      <DownloadCard
        download={download}
        handle={
          <button
            type="button"
            ref={setActivatorNodeRef}
            className={`${parts.button} ${parts.quiet} ${parts.icon}`}
            {...attributes}
            {...listeners}
            aria-label={t("downloads.drag", { name: download.title })}
          >
            <GripVertical aria-hidden />
          </button>
        }
      />
    </li>
  );
}
